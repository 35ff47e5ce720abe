"""Sandboxes by `bwrap`, for development where there is no container engine.

They hold the driver as containers do, with weaker limits: memory is limited for each process, their number and the
processor's time are not. Root has no limits at all that would count here, and is refused.
"""

import asyncio
import importlib.util
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.chores import Chores
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.pool import Launched
from threadloom.sandbox.session import DATA, SandboxLost, SandboxUnavailable

log = structlog.stdlib.get_logger()

DRIVER = Path(__file__).with_name("image")
INSIDE = "/opt/sandbox"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
SCRATCH = 64 * 1024**2
BUFFER = 512 * 1024
MAX_ERRORS = 4096
OPEN_FILES = 1024
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 - the sandbox's own
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PIP_NO_INDEX": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# The shell sets what bwrap cannot, in its units: KiB of data, and blocks of 512 bytes.
LIMITED = (
    'ulimit -c 0 && ulimit -d "$1" && ulimit -f "$2" && ulimit -n "$3" && shift 3 && exec "$@"'
)


class Bubblewrap:
    """Starts the driver with this program's own Python, which needs IPython and what code shall find."""

    def __init__(self, settings: CodeInterpreter, *, uid: int | None = None) -> None:
        self._settings = settings
        self._uid = os.getuid() if uid is None else uid
        self._chores = Chores()

    async def check(self) -> str | None:
        if self._uid == 0:
            return "Bubblewrap's sandboxes are refused for root: start the server as another user, or use Docker."
        if shutil.which("bwrap") is None:
            return "`bwrap` is missing: install bubblewrap, or use Docker."
        if importlib.util.find_spec("IPython") is None:
            return (
                f"{sys.executable} has no IPython: install ipython and matplotlib-inline beside "
                "the server for bubblewrap's sandboxes, or use Docker."
            )
        return None

    async def launch(self) -> Launched:
        if problem := await self.check():
            raise SandboxUnavailable(problem)
        process = await asyncio.create_subprocess_exec(
            *command(self._settings), stdin=PIPE, stdout=PIPE, stderr=PIPE, env={}, limit=BUFFER
        )
        assert process.stdin is not None
        assert process.stdout is not None
        channel = Channel(process.stdout, process.stdin)
        close = partial(self._close, channel, process)
        try:
            await channel.ready()
        except BaseException as failure:
            self._chores.add(close())
            if not isinstance(failure, SandboxLost):
                raise
            log.warning("sandbox did not start", reason=str(failure), said=await errors_of(process))
            raise SandboxUnavailable(f"The sandbox did not start. {failure}") from None
        return Launched(Kernel(channel, self._settings), close)

    async def sweep(self) -> None:
        """They die with their parent."""

    async def close(self) -> None:
        await self._chores.done()

    async def _close(self, channel: Channel, process: Process) -> None:
        channel.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def command(settings: CodeInterpreter) -> list[str]:
    """As the first process of its namespaces and with an empty environment, or code could read ours."""
    mounts = [word for path in (*SYSTEM, *prefixes()) for word in ("--ro-bind-try", path, path)]
    return [
        *("/bin/sh", "-c", LIMITED, "sh"),
        *(str(settings.memory // 1024), str(settings.disk // 512), str(OPEN_FILES)),
        *(shutil.which("bwrap") or "bwrap", "--as-pid-1", "--clearenv"),
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox"),
        *("--size", str(SCRATCH), "--tmpfs", "/tmp"),  # noqa: S108 - the sandbox's own
        *("--perms", "0700", "--size", str(settings.disk), "--tmpfs", DATA),
        *mounts,
        *("--ro-bind", str(DRIVER), INSIDE, "--proc", "/proc", "--dev", "/dev"),
        *("--remount-ro", "/", "--chdir", DATA),
        *(word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *("--", sys.executable, "-E", "-s", "-X", "utf8", f"{INSIDE}/driver.py"),
    ]


def prefixes() -> list[str]:
    """Where this Python and its packages are, as far as the system's folders do not have them."""
    places = dict.fromkeys((sys.base_prefix, sys.prefix))
    return [place for place in places if not place.startswith("/usr/") and place != "/usr"]


async def errors_of(process: Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read(MAX_ERRORS)).decode(errors="replace")
