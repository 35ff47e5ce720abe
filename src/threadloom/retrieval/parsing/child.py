"""One parser process, seen from outside."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from threadloom.retrieval.parsing import Parsed, UnreadableFile
from threadloom.retrieval.parsing.frames import (
    LENGTHS,
    MAX_FRAME,
    Reply,
    Request,
    frame,
    reply_in,
    unpack_chunks,
)

log = structlog.stdlib.get_logger()

BUFFER = 256 * 1024
START_SECONDS = 30.0
# Chats come first, from the first import on; a process cannot take it back.
NICENESS = 10
MODULE = "threadloom.retrieval.parsing.process"
# Nothing of our own environment. Arithmetic libraries would reserve memory for as many threads as there are processors.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


class Fault(Exception):
    """The process failed at a document; the message is for the document's owner, the reason for the operator."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Child:
    """Reads one document at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self._alarm: asyncio.TimerHandle | None = None
        self._seconds = self._left = 0.0
        self.worn = False

    @classmethod
    async def start(cls, memory: int) -> "Child":
        """Waits until it is ready. It is isolated: no environment, no folder of ours, a session of its own (a terminal's Ctrl-C is not for it)."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-X", "utf8", "-m", MODULE, str(memory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd=Path("/"),
            start_new_session=True,
            limit=BUFFER,
        )
        with suppress(ProcessLookupError):  # it ended at once, which is noticed below
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        child = cls(process)
        try:
            child._seconds = child._left = START_SECONDS
            await child._reply()
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """By the kernel's word: the event loop hears of it later."""
        try:
            state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return state is None

    async def read(self, request: Request, seconds: float) -> AsyncGenerator[Parsed]:
        """The document's chunks. Only waiting counts as time: whoever takes the chunks may be slow."""
        self._seconds = self._left = seconds
        self._input.write(frame(request))
        while (reply := await self._reply())[0]["type"] == "chunks":
            yield Parsed(unpack_chunks(*reply), reply[0].get("progress", 0.0))
        last, _ = reply
        self.worn = last.get("worn", False)
        if last["type"] == "failed":
            if fault := last.get("fault"):
                log.info("document made a library fail", fault=fault)
            raise UnreadableFile(last.get("code", "server_error"), last.get("message", ""))

    async def _reply(self) -> tuple[Reply, bytes]:
        since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(self._left, 0)):
                return await self._next()
        except TimeoutError:
            raise Fault(
                f"The file could not be parsed within {self._seconds:g} seconds. Split it into smaller files.",
                "timeout",
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died() from None
        except ValueError:
            raise Fault(BROKEN, "unintelligible reply") from None
        finally:
            self._left -= asyncio.get_running_loop().time() - since

    async def _next(self) -> tuple[Reply, bytes]:
        head, blob = LENGTHS.unpack(await self._output.readexactly(LENGTHS.size))
        if head + blob > MAX_FRAME:
            raise ValueError("frame too large")
        return reply_in(await self._output.readexactly(head)), await self._output.readexactly(blob)

    async def _died(self) -> Fault:
        code = await self._process.wait()
        return Fault(BROKEN, signal.Signals(-code).name if code < 0 else f"exit {code}")

    def sleep(self, seconds: float, then: Callable[["Child"], None]) -> None:
        """Call `then` if nobody wakes it before."""
        self._alarm = asyncio.get_running_loop().call_later(seconds, then, self)

    def wake(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def dismiss(self) -> None:
        """It ends by itself."""
        self._input.close()

    async def kill(self) -> None:
        self.wake()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


BROKEN = (
    "The file could not be parsed because it makes the parser fail: it is damaged or needs too much memory. "
    "Save it again, or split it into smaller files, and upload the result."
)
