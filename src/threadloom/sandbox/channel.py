"""A driver's two streams, and what may be said in them now.

Whoever speaks with a driver does it through a `Channel`: `Kernel` (a sandbox in this process's hands), and the runner, which
relays another process's frames. Both may be cancelled at any await: the channel knows what is still under way, and `settle`
brings it to its end, or the sandbox to its.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import structlog

from threadloom.sandbox.frames import (
    Data,
    Frame,
    FrameReader,
    Message,
    Source,
    Unintelligible,
    packed,
)
from threadloom.sandbox.session import SandboxLost
from threadloom.sandbox.turns import Turn

log = structlog.stdlib.get_logger()

VERSION = 1
START_SECONDS = 60.0
REPLY_SECONDS = 30.0
GRACE = 1.0
"""Seconds between SIGINT and SIGKILL, when an execution is left."""
BACKSTOP = 10.0
"""A driver that overstays an execution's time by this is not waited for any longer."""

GOODBYES = {
    "idle": "The sandbox was not used for long and has ended.",
    "life": "The sandbox has reached the end of its life.",
}
ANOTHER_VERSION = "Its image is of another version: run `threadloom sandbox build`."
GONE = "The sandbox has ended."


class Channel:
    """One request at a time; what comes is hostile until checked. Once `lost`, every method raises SandboxLost.

    A put is given up by the next request: the driver forgets half a file.
    """

    def __init__(
        self, reader: Source, writer: asyncio.StreamWriter, *, started: bool = False
    ) -> None:
        """`started` of one whose driver was heard to be ready elsewhere."""
        self._frames = FrameReader(reader)
        self._writer = writer
        self._turn = None if started else Turn("start", None)
        self.lost: str | None = None
        self.executed = False
        """Something was executed in it, so that it holds what nobody can make again."""

    @property
    def busy(self) -> str | None:
        """The id of the request that is under way."""
        return self._turn and self._turn.id

    @property
    def settled(self) -> bool:
        return self._turn is None

    async def ready(self) -> None:
        """Wait for the driver to be ready: the first thing to do."""
        message = await self.receive(START_SECONDS)
        if isinstance(message, Data) or message.get("v") != VERSION:
            raise self.lose("another version", ANOTHER_VERSION)

    async def send(self, frame: Frame) -> None:
        """Say the next thing. A late `interrupt` is swallowed; raises Unintelligible for what may not be said now."""
        self._check()
        if isinstance(frame, Data):
            self._send_piece(frame.content)
        elif frame.get("op") == "interrupt":
            self.interrupt()
            return
        else:
            self._begin(frame)
        with self.losing():
            async with asyncio.timeout(REPLY_SECONDS):
                if self._writer.is_closing():
                    raise ConnectionResetError
                self._writer.write(packed(frame))
                await self._writer.drain()

    async def receive(self, seconds: float | None = None) -> Frame:
        """What the driver says next, within so many seconds. Its last answer to a request ends the turn."""
        self._check()
        with self.losing():
            async with asyncio.timeout(seconds):
                frame = await self._frames.next()
            self._hear(frame)
        return frame

    def interrupt(self) -> None:
        """End the execution under way, if there is one: at once, and a second later by force."""
        turn = self._turn
        if turn and turn.op == "exec" and not turn.interrupted and not self._writer.is_closing():
            turn.interrupted = True
            self._writer.write(packed({"op": "interrupt", "id": turn.id, "grace": GRACE}))

    async def settle(self) -> None:
        """Bring what is under way to its end, and its answers to nowhere. Raises SandboxLost when that fails."""
        self._check()
        if self._turn is None:
            return
        if self._turn.sending:
            await self.send({"op": "files", "id": f"after {self._turn.id}"})
        self.interrupt()
        with self.losing():
            async with asyncio.timeout(BACKSTOP):
                while not self.settled:
                    await self.receive()

    def close(self, why: str = GONE) -> None:
        """Lose it; whoever waits for an answer gets SandboxLost."""
        if self.lost is None:
            self.lost = why
            if not self._writer.is_closing():
                self._writer.transport.abort()

    def _begin(self, request: Message) -> None:
        last = self._turn
        if last is not None and not last.sending:
            raise Unintelligible("a request before the last was answered")
        self._turn = Turn.of(request)
        self._turn.given_up = last and last.id
        self.executed = self.executed or self._turn.op == "exec"

    def _send_piece(self, piece: bytes) -> None:
        if self._turn is None:
            raise Unintelligible("a piece of no file")
        self._turn.send(piece)
        self._end_turn()

    def _hear(self, frame: Frame) -> None:
        if not isinstance(frame, Data) and frame.get("ev") == "bye":
            raise self.lose("said goodbye", GOODBYES.get(str(frame.get("why")), GONE))
        if self._turn is None:
            raise Unintelligible("an answer to nothing")
        if isinstance(frame, Data):
            self._turn.take(frame.content)
        else:
            self._turn.hear(frame, self._frames.length)
        self._end_turn()

    def _end_turn(self) -> None:
        if self._turn and self._turn.over:
            self._turn = None

    def _check(self) -> None:
        if self.lost is not None:
            raise SandboxLost(self.lost)

    @contextmanager
    def losing(self) -> Generator[None]:
        """The sandbox ends with whatever goes wrong in here."""
        try:
            yield
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self.lose("stream ended") from None
        except TimeoutError:
            raise self.lose("no answer", "The sandbox did not answer and was ended.") from None
        except Unintelligible as fault:
            raise self.lose(str(fault), "The sandbox broke its protocol and was ended.") from None

    def lose(self, reason: str, why: str = GONE) -> SandboxLost:
        if self.lost is None:
            log.info("sandbox lost", reason=reason)
        self.close(why)
        return SandboxLost(self.lost or why)
