"""The kernel: the driver's child, in which cells are run. What it says of itself may be a lie of the code in it."""

import builtins
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hardening import set_dumpable
from shell import Shell
from wire import DATA, HEAD, JSON, MAX_PICTURE, Message, framed, is_picture, message, parsed

LONGEST_TRACEBACK = 64 * 1024
# The driver needs a processor at once, whatever a cell has started.
NICENESS = 19
HERE = Path(__file__).parent
NO_INPUT = "input() is not available: nobody can answer. Write the value into the code instead."


@dataclass(frozen=True)
class Ends:
    """The kernel's ends of what it shares with the driver: a socket for messages, and two pipes.

    All text goes to `output`. From `taken` comes a byte for each picture that the driver has taken: what is printed after
    a picture must not overtake it on the other way.
    """

    channel: int
    output: int
    taken: int


class Kernel:
    """Runs cells."""

    def __init__(self, shell: Shell, ends: Ends) -> None:
        self._shell = shell
        self._channel, self._output, self._taken = ends.channel, ends.output, ends.taken
        self._pid = os.getpid()
        self._sending = threading.Lock()
        builtins.input = refuse_input
        self._builtins = dict(vars(builtins))
        self._stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - as long as we live
        shell.show_picture, shell.write = self.show_picture, self.write

    def serve(self) -> NoReturn:
        """One cell after the other, until the driver closes the channel."""
        while True:
            request = self._request()
            ok = self._execute(request["code"])
            if os.getpid() != self._pid:  # a copy that the cell made of us
                os._exit(0)
            text = encoded("".join(self._shell.tracebacks)[-LONGEST_TRACEBACK:]).decode()
            done = {"ev": "done", "number": request["number"], "ok": ok, "traceback": text}
            self._send(message(done))

    def write(self, text: str) -> None:
        """To the pipe, whatever became of the cell's own streams."""
        self._flush()
        rest = memoryview(encoded(text))
        while rest:
            rest = rest[os.write(self._output, rest) :]

    def show_picture(self, media_type: str, content: bytes) -> None:
        if len(content) > MAX_PICTURE:
            megabytes = len(content) / 1024**2
            self.write(f"[A picture of {megabytes:.1f} MB was left out: it may have 10 MB.]\n")
        elif is_picture(media_type, content):
            self._flush()
            announced = message({"ev": "picture", "media_type": media_type})
            self._send(announced + framed(DATA, content), await_taken=True)

    def _execute(self, code: str) -> bool:
        """Whether it raised nothing."""
        self._restore()
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._send(message({"ev": "started"}))
            return self._shell.run(code)
        except KeyboardInterrupt:  # just before the cell, or just after it
            return False
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._flush()

    def _restore(self) -> None:
        """Undo what the last cell may have done to what the next one needs."""
        builtins.__dict__.update(self._builtins)
        for standard in (1, 2):
            os.dup2(self._output, standard)
        sys.stdin, sys.stdout, sys.stderr = self._stdin, text_stream(1), text_stream(2)
        self._shell.tracebacks = []

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a cell can put anything there
                stream.flush()

    def _send(self, frames: bytes, *, await_taken: bool = False) -> None:
        """All or nothing: no interrupt and no other thread comes between. A copy of this process has nothing to say."""
        if os.getpid() != self._pid:
            return
        with self._sending, interrupts_deferred():
            rest = memoryview(frames)
            while rest:
                rest = rest[os.write(self._channel, rest) :]
            if await_taken:
                os.read(self._taken, 1)

    def _request(self) -> Message:
        length, kind = HEAD.unpack(self._read(HEAD.size))
        assert kind == JSON, "the driver sends nothing else"
        return parsed(self._read(length))

    def _read(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            if not (some := os.read(self._channel, size - len(received))):
                os._exit(0)
            received += some
        return bytes(received)


def live(shell: Shell, ends: Ends) -> NoReturn:
    """A forked child's life, from which it never comes back. What goes wrong in it is said in the cell's output."""
    try:
        forget_driver(ends)
        Kernel(shell, ends).serve()
    except BaseException:  # noqa: BLE001 - the code after the fork is the driver's
        with suppress(OSError):
            os.write(ends.output, encoded(traceback.format_exc()))
    finally:
        os._exit(1)


def forget_driver(ends: Ends) -> None:
    """Its streams, its signals, its modules."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    kept = sorted((2, ends.channel, ends.output, ends.taken, os.sysconf("SC_OPEN_MAX")))
    for before, after in pairwise(kept):
        os.closerange(before + 1, after)
    for standard in (1, 2):
        os.dup2(ends.output, standard)
    set_dumpable(True)  # /proc/self is its own again
    os.setsid()
    os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # before the driver
    sys.argv = [""]
    sys.path[:] = ["", *(folder for folder in sys.path if folder != str(HERE))]
    for name, module in list(sys.modules.items()):
        if Path(str(getattr(module, "__file__", None))).parent == HERE:
            del sys.modules[name]  # cells may have modules of these names
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # Python's own generator knows of forks


def text_stream(descriptor: int) -> TextIOWrapper:
    """Of lines, so that what other processes print comes in its place."""
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def encoded(text: str) -> bytes:
    """Strings may hold what is no Unicode."""
    return text.encode(errors="backslashreplace")


def refuse_input(_: object = "", /) -> NoReturn:
    raise RuntimeError(NO_INPUT)


@contextmanager
def interrupts_deferred() -> Generator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
