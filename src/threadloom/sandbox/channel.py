"""A driver's two streams, and what may be said in them now.

Whoever speaks with a driver does it through a `Channel`: `Kernel` (a sandbox in this process's hands), and the runner, which
relays another process's frames. Both may be cancelled at any await: the channel knows what is still under way, and `settle`
brings it to its end, or the sandbox to its.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from threadloom.sandbox.answers import MAX_PICTURE, size_in
from threadloom.sandbox.frames import (
    MAX_FRAME,
    Data,
    Frame,
    FrameReader,
    Message,
    Source,
    Unintelligible,
    packed,
)
from threadloom.sandbox.session import SandboxLost

log = structlog.stdlib.get_logger()

VERSION = 1
START_SECONDS = 60.0
REPLY_SECONDS = 30.0
GRACE = 1.0
"""Seconds between SIGINT and SIGKILL, when an execution is left."""
BACKSTOP = 10.0
"""A driver that overstays an execution's time by this is not waited for any longer."""

ENDS = {
    "start": "ready",
    "exec": "done",
    "put": "put",
    "link": "linked",
    "get": "got",
    "files": "files",
    "claim": "claimed",
    "ping": "pong",
}
STREAMED = {"log": "exec", "picture": "exec", "file": "get"}
GOODBYES = {
    "idle": "The sandbox was not used for long and has ended.",
    "life": "The sandbox has reached the end of its life.",
}
ANOTHER_VERSION = "Its image is of another version: run `threadloom sandbox build`."
GONE = "The sandbox has ended."


@dataclass
class Turn:
    """A request whose last answer has not come yet."""

    op: str
    id: str | None
    sending: int = 0
    """Bytes of the file that the host still owes."""
    due: int = 0
    """Bytes of the picture or file that the driver still owes."""
    room: int = 0
    """Bytes that the driver may still say in all."""
    interrupted: bool = False
    answered: bool = False
    given_up: str | None = None
    """The id of the put that this request ended half-way; its refusal may still come."""


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
        self._turn = None if started else Turn("start", None, room=4096)
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
            self._note_piece(frame.content)
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
            if isinstance(frame, Data):
                self._take_piece(frame.content)
            else:
                self._take_message(frame)
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
            self._writer.transport.abort()

    def _begin(self, request: Message) -> None:
        op, id_ = request.get("op"), request.get("id")
        last = self._turn
        if last is not None and not last.sending:
            raise Unintelligible("a request before the last was answered")
        if not isinstance(op, str) or op not in ENDS or not isinstance(id_, str):
            raise Unintelligible("no request")
        sending = size_in(request) if op == "put" else 0
        self._turn = Turn(op, id_, sending, room=_room(op, request), given_up=last and last.id)
        self.executed = self.executed or op == "exec"

    def _note_piece(self, content: bytes) -> None:
        turn = self._turn
        if turn is None or not 0 < len(content) <= turn.sending:
            raise Unintelligible("a piece of no file")
        turn.sending -= len(content)
        if turn.answered and not turn.sending:
            self._turn = None

    def _take_piece(self, content: bytes) -> None:
        turn = self._turn
        if turn is None or not 0 < len(content) <= turn.due:
            raise Unintelligible("a piece of nothing")
        turn.due -= len(content)
        self._count(turn, len(content))

    def _take_message(self, message: Message) -> None:
        event, turn = message.get("ev"), self._turn
        if event == "bye":
            raise self.lose("said goodbye", GOODBYES.get(str(message.get("why")), GONE))
        if turn is None:
            raise Unintelligible("an answer to nothing")
        self._count(turn, len(packed(message)))
        if turn.given_up and message.get("id") == turn.given_up and event == "fail":
            turn.given_up = None
            return
        if message.get("id") != turn.id:
            raise Unintelligible("an answer to another request")
        if turn.answered or not isinstance(event, str):
            raise Unintelligible("an answer too many")
        if event == "fail" and (not turn.due or turn.op == "get"):
            self._end(turn)
        elif turn.due:
            raise Unintelligible("no piece where one was due")
        elif event == ENDS[turn.op]:
            self._end(turn)
        elif STREAMED.get(event) == turn.op:
            turn.due = size_in(message) if event != "log" else 0
        else:
            raise Unintelligible("no answer to this")

    def _end(self, turn: Turn) -> None:
        """A refused file is sent to its end all the same: the driver passes over it."""
        turn.answered = True
        if not turn.sending:
            self._turn = None

    def _count(self, turn: Turn, size: int) -> None:
        turn.room -= size
        if turn.room < 0:
            raise Unintelligible("more than there is room for")

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


def _room(op: str, request: Message) -> int:
    """A log of one character takes a frame of its own at worst; names of files come on top."""
    if op == "get":
        return size_in(request) + 4096
    if op == "exec":
        pictures = size_in(request, "max_pictures") * MAX_PICTURE
        return 64 * size_in(request, "max_output") + pictures + 4 * MAX_FRAME
    return 2 * MAX_FRAME
