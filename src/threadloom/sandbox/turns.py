"""A request to a driver, and what may be said until it is answered."""

from dataclasses import dataclass

from threadloom.sandbox.answers import MAX_PICTURE, size_in
from threadloom.sandbox.frames import MAX_FRAME, Message, Unintelligible

ANSWER = 2 * MAX_FRAME
"""Bytes of messages that any answer may have; files are listed in one."""
ENDS = {
    "start": "ready",
    "exec": "done",
    "put": "put",
    "link": "linked",
    "remove": "removed",
    "get": "got",
    "files": "files",
    "claim": "claimed",
    "ping": "pong",
}
STREAMED = {"log": "exec", "picture": "exec", "file": "get"}


@dataclass
class Turn:
    """Each method raises Unintelligible for what may not be said now."""

    op: str
    id: str | None
    sending: int = 0
    """Bytes of a file that the host still owes."""
    room: int = ANSWER
    """Bytes of messages that the driver may still send."""
    pieces: int = 0
    """Bytes of pictures, or of a file, that the driver may still announce."""
    due: int = 0
    """Bytes that it has announced and still owes."""
    given_up: str | None = None
    """The id of a put that this request ended half-way; its refusal may still come."""
    interrupted: bool = False
    answered: bool = False

    @classmethod
    def of(cls, request: Message) -> "Turn":
        op, id_ = request.get("op"), request.get("id")
        if not isinstance(op, str) or op not in ENDS or not isinstance(id_, str):
            raise Unintelligible("no request")
        match op:
            case "put":
                return cls(op, id_, sending=size_in(request))
            case "get":
                return cls(op, id_, pieces=size_in(request))
            case "exec":
                # At worst a log of one character takes a message of its own.
                room = 64 * size_in(request, "max_output") + ANSWER
                pieces = size_in(request, "max_pictures") * MAX_PICTURE
                return cls(op, id_, room=room, pieces=pieces)
            case _:
                return cls(op, id_)

    @property
    def over(self) -> bool:
        """A refused file is sent to its end all the same: the driver passes over it."""
        return self.answered and not self.sending

    def send(self, piece: bytes) -> None:
        if not 0 < len(piece) <= self.sending:
            raise Unintelligible("a piece of no file")
        self.sending -= len(piece)

    def take(self, piece: bytes) -> None:
        if not 0 < len(piece) <= self.due:
            raise Unintelligible("a piece of nothing")
        self.due -= len(piece)

    def hear(self, message: Message, length: int) -> None:
        """`length` in bytes, as it came."""
        self.room -= length
        if self.room < 0:
            raise Unintelligible("more than there is room for")
        event, id_ = message.get("ev"), message.get("id")
        if event == "fail" and self.given_up and id_ == self.given_up:
            self.given_up = None
        elif id_ != self.id or self.answered or not isinstance(event, str):
            raise Unintelligible("an answer to nothing")
        elif event == "fail" and self.op == "get":
            self.answered = True
        elif self.due:
            raise Unintelligible("no piece where one was due")
        elif event in ("fail", ENDS[self.op]):
            self.answered = True
        else:
            self._stream(event, message)

    def _stream(self, event: str, message: Message) -> None:
        if STREAMED.get(event) != self.op:
            raise Unintelligible("no answer to this")
        if event != "log":
            self.due = size_in(message)
            self.pieces -= self.due
        if self.pieces < 0:
            raise Unintelligible("larger than there is room for")
