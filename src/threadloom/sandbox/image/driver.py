"""The container's first process: does what the host asks, and has all code run in a child, the kernel.

The host speaks on standard input, and hears on standard output; when it lets go of them, the driver ends, and with it
all of the container. No code of a cell is ever run in this process. When a kernel ends, all that it started is ended, too,
and the next kernel is a fork away, with what was imported here before.

Processes and threads that a cell leaves behind go on. What they print while a cell runs is in its output; what they print
between cells is dropped. When a cell had to be interrupted, the processes end with it, and the kernel does if its threads compute.
"""

import gc
import os
import selectors
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cell import GRACE, Cell, Ending, Stop
from clocks import Clocks
from files import Folder, Refused
from hardening import harden
from host import Host
from processes import (
    KernelProcess,
    computes,
    end_all,
    end_strays,
    memory_kills,
    memory_used,
    start_kernel,
)
from shell import Shell, make_shell
from transfers import Transfers
from wire import DATA, Message, Nonsense, is_picture, message, parsed

VERSION = 1
READ = 256 * 1024
MOST_READS = 16
"""Of a kernel's output, before anything else is looked after."""
MOST_ENDED = 1000
FONTS = Path("/opt/sandbox/matplotlib")
LOST_BEFORE = "[The Python process ended after the last call: variables and imports are gone.]\n"


class Driver:
    """At most one kernel, and at most one cell in it."""

    def __init__(self, host: Host, folder: Folder, shell: Shell) -> None:
        self._host, self._folder, self._shell = host, folder, shell
        self._transfers = Transfers(host, folder)
        self._clocks = Clocks()
        self._kernel: KernelProcess | None = None
        self._cell: Cell | None = None
        self._cells = 0
        self._lost = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(host.descriptor, selectors.EVENT_READ, self._hear_host)
        self._signals = child_signals()
        self._selector.register(self._signals, selectors.EVENT_READ, self._reap)
        self._answers = {
            "exec": self._execute,
            "interrupt": self._interrupt,
            "put": self._transfers.put,
            "link": self._transfers.link,
            "remove": self._transfers.remove,
            "get": self._transfers.get,
            "files": self._transfers.files,
            "claim": self._claim,
            "ping": self._ping,
        }

    def run(self) -> NoReturn:
        self._start_kernel()
        self._host.say("ready", v=VERSION)
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._look_at_clock()

    # What the host asks

    def _hear_host(self) -> None:
        frames = self._host.read()
        if frames is None:
            os._exit(0)
        for kind, content in frames:
            if kind == DATA:
                self._transfers.take(content)
            else:
                self._obey(parsed(content))

    def _obey(self, request: Message) -> None:
        operation = request["op"]
        if operation not in ("ping", "interrupt", "claim"):
            self._transfers.abandon()
            self._clocks.used(time.monotonic())
            if self._cell is not None:
                return self._transfers.refuse(request["id"], Refused("busy", "A cell is running."))
        try:
            return self._answers[operation](request)
        except Refused as refused:
            return self._transfers.refuse(request["id"], refused)

    def _execute(self, request: Message) -> None:
        kernel = self._kernel or self._start_kernel()
        self._read_output(kernel)
        self._folder.acknowledge(request.get("kept", ""))
        self._cells += 1
        now = time.monotonic()
        self._cell = Cell.of(request, self._cells, now, memory_kills())
        if self._lost:
            self._lost = False
            self._print(LOST_BEFORE)
        kernel.send(message({"code": request["code"], "number": self._cells}))
        self._flush(kernel)

    def _interrupt(self, request: Message) -> None:
        if self._cell is not None and self._cell.id == request["id"]:
            self._stop(self._cell, "interrupted", request["grace"])

    def _claim(self, request: Message) -> None:
        self._clocks.start(time.monotonic(), idle=request["idle"], life=request["life"])
        self._host.say("claimed", id=request["id"])

    def _ping(self, request: Message) -> None:
        self._host.say("pong", id=request["id"], memory=memory_used())

    # What the kernel says

    def _start_kernel(self) -> KernelProcess:
        self._folder.unlock()
        kernel = self._kernel = start_kernel(self._shell)
        for descriptor, handler in (
            (kernel.channel, self._hear_kernel),
            (kernel.output, self._read_output),
        ):
            self._selector.register(descriptor, selectors.EVENT_READ, partial(handler, kernel))
        return kernel

    def _hear_kernel(self, kernel: KernelProcess) -> None:
        if kernel is not self._kernel:  # it ended since this was found to be ready
            return
        self._flush(kernel)
        if not self._understand(kernel):
            kernel.kill()
            _, status = os.waitpid(kernel.pid, 0)
            self._bury(kernel, status)

    def _understand(self, kernel: KernelProcess) -> bool:
        """Whether it makes sense, and may say more."""
        try:
            return self._read_channel(kernel)
        except Nonsense:
            return False

    def _read_channel(self, kernel: KernelProcess) -> bool:
        """Whether there may come more. Raises Nonsense."""
        try:
            received = os.read(kernel.channel, READ)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        for kind, content in kernel.inbox.add(received):
            self._read_output(kernel)  # what was printed before comes before
            if kind == DATA:
                kernel.acknowledge_picture()
                self._picture(kernel.announced, content)
                kernel.announced = None
            else:
                self._believe(kernel, parsed(content))
        return bool(received)

    def _believe(self, kernel: KernelProcess, said: Message) -> None:
        """A lie harms only the session of the code that told it. Raises Nonsense."""
        cell = self._cell
        match said.get("ev"):
            case "picture":
                kernel.announced = said.get("media_type")
            case "started" if cell is not None and not cell.running:
                cell.running = True
                if cell.stop is not None:
                    kernel.interrupt()
            case "done" if cell is not None and said.get("number") == cell.number:
                if cell.stop is not None and not settled(kernel.pid):
                    raise Nonsense("what it started goes on")
                ending = cell.stop or ("ok" if said.get("ok") is True else "error")
                self._finish(cell, ending, traceback=str(said.get("traceback", "")))
            case "started" | "done":  # of an earlier cell
                pass
            case _:
                raise Nonsense("unknown event")

    def _picture(self, media_type: str | None, content: bytes) -> None:
        """Raises Nonsense."""
        if media_type is None or not is_picture(media_type, content):
            raise Nonsense("no picture")
        if self._cell is None:
            return
        self._cell.pictures += 1
        if self._cell.pictures <= self._cell.max_pictures:
            size = len(content)
            self._host.say("picture", id=self._cell.id, media_type=media_type, size=size)
            self._host.send(content)

    def _read_output(self, kernel: KernelProcess) -> None:
        if kernel is not self._kernel or kernel.silent:
            return
        for _ in range(MOST_READS):
            text = kernel.text()
            if text is None:
                kernel.silent = True
                self._selector.unregister(kernel.output)
            if not text:
                return
            self._print(text)

    def _print(self, text: str) -> None:
        if self._cell is not None and (now := self._cell.text.add(text)):
            self._host.log(self._cell.id, now)

    def _flush(self, kernel: KernelProcess) -> None:
        """A kernel that does not read at once gets the rest when it does."""
        events = selectors.EVENT_READ | (0 if kernel.flush() else selectors.EVENT_WRITE)
        handler = partial(self._hear_kernel, kernel)
        self._selector.modify(kernel.channel, events, handler)

    # How cells and kernels end

    def _patience(self) -> float | None:
        """Seconds until something is due."""
        due = self._cell.due if self._cell else self._clocks.due
        return max(due - time.monotonic(), 0) if due < float("inf") else None

    def _look_at_clock(self) -> None:
        now, cell = time.monotonic(), self._cell
        if cell is None:
            if why := self._clocks.over(now):
                self._host.say("bye", why=why)
                os._exit(0)
        elif now >= cell.kill_at:
            cell.kill_at = float("inf")
            if self._kernel:
                self._kernel.kill()
        elif now >= cell.interrupt_at:
            self._stop(cell, "timeout", GRACE)

    def _stop(self, cell: Cell, why: Stop, grace: float) -> None:
        cell.kill_at = min(cell.kill_at, time.monotonic() + grace)
        cell.interrupt_at = float("inf")
        if cell.stop is None:
            cell.stop = why
            if cell.running and self._kernel:
                self._kernel.interrupt()

    def _reap(self) -> None:
        os.read(self._signals, READ)
        for pid, status in ended_children():
            if self._kernel and pid == self._kernel.pid:
                end_all()
                while self._understand(self._kernel):  # it may even have finished its cell
                    pass
                self._bury(self._kernel, status)
                return

    def _bury(self, kernel: KernelProcess, status: int) -> None:
        """All that it started ends with it. One that died unused is not replaced at once: so would the next one."""
        end_all()
        self._read_output(kernel)
        for descriptor in (kernel.channel, kernel.output):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        kernel.close()
        self._kernel = None
        if self._cell is not None:
            self._finish(self._cell, ending_of(self._cell, status), state_lost=True)
        else:
            self._lost = kernel.used
        if kernel.used:
            self._start_kernel()

    def _finish(
        self, cell: Cell, ending: Ending, *, state_lost: bool = False, traceback: str = ""
    ) -> None:
        self._host.log(cell.id, cell.text.end(traceback))
        files, found = self._folder.changed(cell.max_files, cell.call)
        self._host.log(cell.id, cell.notes(min(len(files), cell.max_files), found))
        self._cell = None
        now = time.monotonic()
        self._clocks.used(now)
        self._host.say(
            "done",
            id=cell.id,
            ending=ending,
            state_lost=state_lost,
            cut=cell.text.cut,
            files=files,
            ms=round((now - cell.started_at) * 1000),
        )


def ending_of(cell: Cell, status: int) -> Ending:
    """Of a cell whose kernel died."""
    if cell.stop is not None:
        return cell.stop
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return "out_of_memory" if killed and memory_kills() > cell.memory_kills else "died"


def settled(kernel: int) -> bool:
    """Whether a kernel whose cell was stopped is at rest now: its processes are ended, but threads cannot be."""
    return end_strays(kernel) and not computes(kernel)


def ended_children() -> list[tuple[int, int]]:
    """With their wait statuses; also of orphans, which become this process's children. Bounded: some start others quickly."""
    ended: list[tuple[int, int]] = []
    while len(ended) < MOST_ENDED:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        ended.append((pid, status))
    return ended


def child_signals() -> int:
    """A descriptor that becomes readable when a child has ended."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, noticed)
    return readable


def noticed(signal_number: int, frame: FrameType | None, /) -> None:
    """What wakes the loop is the descriptor; without a handler nothing would be written to it."""


def main() -> NoReturn:
    if os.getpid() != 1:  # it kills all processes that it sees
        sys.exit("The driver must be the first process of a PID namespace.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    harden()
    host = Host()
    if FONTS.is_dir():
        shutil.copytree(FONTS, os.getenv("MPLCONFIGDIR", "/tmp/matplotlib"), dirs_exist_ok=True)  # noqa: S108 - the container's own
    preload = os.getenv("SANDBOX_PRELOAD", "numpy,pandas,matplotlib.pyplot")
    shell = make_shell([name for name in preload.split(",") if name])
    folder = Folder(os.getenv("SANDBOX_DATA", "/mnt/data"))
    os.chdir(folder.path)
    gc.collect()
    gc.freeze()
    Driver(host, folder, shell).run()


if __name__ == "__main__":
    main()
