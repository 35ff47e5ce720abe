"""Named points at which a test makes this process fail; they do nothing unless one is armed.

`THREADLOOM_FAULT=run.delta:3:kill` kills the process when it passes the point `run.delta` for the third time. The other
actions are `stop` (as frozen), `raise` (an OSError) and `sleep0.5` (the thread, and with it perhaps the event loop).
docs/faults.md names the points.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Callable

FORM = re.compile(r"([a-z_.]+):([1-9]\d*):(kill|stop|raise|sleep(\d+(?:\.\d+)?))")


class Armed:
    """One fault, of this process as a whole: a point has nobody to be handed it by."""

    pass_by: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Fail here if that was asked for."""
    if Armed.pass_by is not None:
        Armed.pass_by(name)


def arm(fault: str) -> None:
    """Take `name:n:action`: the n-th passage of the point. Raises ValueError."""
    parts = FORM.fullmatch(fault)
    if parts is None:
        raise ValueError(f"{fault!r} is not name:n:action (kill, stop, raise or sleep<seconds>)")
    name, count, action, pause = parts.groups()
    left = int(count)

    def pass_by(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if left == 0:
                fail(name, action, float(pause or 0))

    Armed.pass_by = pass_by


def fail(name: str, action: str, pause: float) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise OSError(errno.EIO, f"a fault was asked for at {name}")
        case _:
            time.sleep(pause)
