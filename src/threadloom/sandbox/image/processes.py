"""The container's processes, as its first one sees them."""

import codecs
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from kernel import Ends, live
from shell import Shell
from wire import DATA, JSON, MAX_FRAME, MAX_PICTURE, Inbox

READ = 64 * 1024
ROUNDS = 20
PAUSE = 0.005
MOMENT = 0.1
LOOKS = 5
CONTROL = Path("/sys/fs/cgroup")
KILLS = ("memory.events", "memory/memory.oom_control")
MEMORY = ("memory.current", "memory/memory.usage_in_bytes")


class KernelProcess:
    """A kernel as the driver sees it. Both ends are read without waiting."""

    def __init__(self, pid: int, *, channel: int, output: int, taken: int) -> None:
        self.pid, self.channel, self.output, self._taken = pid, channel, output, taken
        self.used = False
        self.silent = False
        self.announced: str | None = None
        self.inbox = Inbox({JSON: MAX_FRAME, DATA: MAX_PICTURE})
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._outgoing = bytearray()
        for descriptor in (channel, output, taken):
            os.set_blocking(descriptor, False)

    def text(self) -> str | None:
        """What it or its children printed, as far as it is there; None at the end."""
        try:
            received = os.read(self.output, READ)
        except BlockingIOError:
            return ""
        return self._decoder.decode(received) if received else None

    def send(self, frame: bytes) -> None:
        self.used = True
        self._outgoing += frame

    def flush(self) -> bool:
        """Whether all that was to be sent is sent; a kernel that reads nothing is not waited for."""
        with suppress(OSError):  # it is full, or the kernel has ended: that is noticed elsewhere
            while self._outgoing:
                del self._outgoing[: os.write(self.channel, self._outgoing)]
        return not self._outgoing

    def acknowledge_picture(self) -> None:
        with suppress(OSError):
            os.write(self._taken, b"!")

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal: its children, too."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        for descriptor in (self.channel, self.output, self._taken):
            os.close(descriptor)


def start_kernel(shell: Shell) -> KernelProcess:
    """A copy of this process; what was imported here is there."""
    channel, its_channel = (end.detach() for end in socket.socketpair())
    output, its_output = os.pipe()
    its_taken, taken = os.pipe()
    pid = os.fork()
    if pid == 0:
        live(shell, Ends(its_channel, its_output, its_taken))
    for descriptor in (its_channel, its_output, its_taken):
        os.close(descriptor)
    return KernelProcess(pid, channel=channel, output=output, taken=taken)


def end_all() -> None:
    """Kill and reap all but this process. Only for a PID namespace's first one."""
    while True:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def end_strays(kernel: int) -> bool:
    """Kill all but this process and the kernel. Whether it could be done; some fork too fast."""
    for _ in range(ROUNDS):
        strays = [pid for pid in running() if pid not in (os.getpid(), kernel)]
        if not strays:
            return True
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)
    return False


def computes(pid: int) -> bool:
    """Whether a process goes on computing. What was interrupted just now has a word to write first, and may wait long for a processor."""
    return all(is_busy(pid) for _ in range(LOOKS))


def is_busy(pid: int) -> bool:
    """Whether it would use a processor for more than half of a moment, also where others are in its way."""
    before = time_wanted(pid)
    time.sleep(MOMENT)
    return time_wanted(pid) - before > MOMENT / 2


def time_wanted(pid: int) -> float:
    """Seconds that the threads of a process have run, or were ready to; none of one that has ended."""
    wanted = 0.0
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            wanted += time_of(thread)
    return wanted


def time_of(thread: Path) -> float:
    """Where the kernel does not tell how long it was ready (gVisor), how long it ran. Raises OSError when it has ended."""
    try:
        ran, waited, _ = (thread / "schedstat").read_text().split()
    except FileNotFoundError:
        fields = (thread / "stat").read_text(errors="replace").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return (int(ran) + int(waited)) / 1e9


def running() -> list[int]:
    """Processes that have not ended, reaped or not."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal():
                state = (entry / "stat").read_text(errors="replace").rpartition(") ")[2][:1]
                if state not in "ZX":
                    found.append(int(entry.name))
    return found


def memory_kills() -> int:
    """How often the kernel killed a process of this container because its memory was used up."""
    found = re.search(r"^oom_kill (\d+)$", control_file(KILLS), re.MULTILINE)
    return int(found[1]) if found else 0


def memory_used() -> int | None:
    """Bytes, as far as the container is told."""
    used = control_file(MEMORY).strip()
    return int(used) if used else None


def control_file(names: tuple[str, str]) -> str:
    """Of version 2 or 1 of control groups; empty where there is neither."""
    for name in names:
        with suppress(OSError):
            return (CONTROL / name).read_text()
    return ""
