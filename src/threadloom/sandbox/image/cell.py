"""One execution, as the driver keeps it."""

from dataclasses import dataclass
from typing import Literal

from wire import Message

Ending = Literal["ok", "error", "interrupted", "timeout", "out_of_memory", "died"]
Stop = Literal["interrupted", "timeout"]

GRACE = 3.0
"""Seconds from the interrupt to the kill."""
LONGEST_END = 4096


class Text:
    """A cell's output: so many characters of it. The last of them are kept for the traceback that may come at the end."""

    def __init__(self, room: int) -> None:
        self._left = room
        self._kept = min(room // 4, LONGEST_END)
        self._held = ""
        self.cut = 0

    def add(self, text: str) -> str:
        """What of it is to be sent at once."""
        room = max(self._left - self._kept, 0)
        now, later = text[:room], text[room:]
        held = later[: self._kept - len(self._held)]
        self._left -= len(now)
        self._held += held
        self.cut += len(later) - len(held)
        return now

    def end(self, text: str) -> str:
        """What was held back, and `text`; when there is no room for both, the end of `text` matters most."""
        room = max(self._kept, self._left - len(self._held))
        last = text[max(len(text) - room, 0) :]
        held = self._held[: self._left - len(last)]
        self.cut += len(self._held) + len(text) - len(held) - len(last)
        return held + last


@dataclass
class Cell:
    """Times are the monotonic clock's seconds. `number` is what the kernel calls it, `call` what the host does."""

    id: str
    number: int
    started_at: float
    interrupt_at: float
    text: Text
    call: str
    max_pictures: int
    max_files: int
    memory_kills: int
    kill_at: float = float("inf")
    running: bool = False
    stop: Stop | None = None
    pictures: int = 0

    @classmethod
    def of(cls, request: Message, number: int, now: float, memory_kills: int) -> "Cell":
        return cls(
            id=request["id"],
            number=number,
            started_at=now,
            interrupt_at=now + request["seconds"],
            text=Text(request["max_output"]),
            call=request.get("call", ""),
            max_pictures=request["max_pictures"],
            max_files=request["max_files"],
            memory_kills=memory_kills,
        )

    @property
    def due(self) -> float:
        return min(self.interrupt_at, self.kill_at)

    def notes(self, kept: int, found: int) -> str:
        """What else was left out. `found` files are new or changed, the host may keep `kept` of them now."""
        notes = ""
        if self.pictures > self.max_pictures:
            notes += (
                f"[{self.pictures} pictures were shown, the first {self.max_pictures} are kept.]\n"
            )
        if found > kept:
            later = " The others follow with the next calls." if kept else ""
            notes += f"[{found} files are new or changed, {kept} of them are kept.{later}]\n"
        return notes
