"""What the host and a sandbox's driver say to each other: JSON and bytes, each with its length before it.

The driver has the other half of this (`image/driver.py`), written apart: it cannot import us.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import orjson

HEAD = struct.Struct("!IB")
MAX_FRAME = 1024 * 1024
PIECE = 256 * 1024
"""Files and pictures are sent in pieces of at most so many bytes."""
JSON = ord("J")
DATA = ord("D")

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
Message = Mapping[str, Value]
"""From the host it has an `op`, from the driver an `ev`; a request and its answers share an `id`."""


class Unintelligible(Exception):
    """The other side sent what is no frame, or none that may come now."""


@dataclass(frozen=True)
class Data:
    """A piece of the file or picture that is on its way."""

    content: bytes


Frame = Message | Data


class Source(Protocol):
    """Where bytes come from: an asyncio.StreamReader, or a stream within another. Cancelled, `readexactly` takes nothing."""

    async def readexactly(self, n: int, /) -> bytes: ...


class FrameReader:
    """Cuts a stream into frames; `next` can be cancelled and called again."""

    def __init__(self, source: Source) -> None:
        self.length = 0
        """Bytes of the frame that came last."""
        self._source = source
        self._head: tuple[int, int] | None = None

    async def next(self) -> Frame:
        """Raises Unintelligible, and IncompleteReadError or ConnectionError when the other side has ended."""
        if self._head is None:
            self._head = HEAD.unpack(await self._source.readexactly(HEAD.size))
        length, kind = self._head
        if length > MAX_FRAME or kind not in (JSON, DATA):
            raise Unintelligible("no frame, or too large")
        content = await self._source.readexactly(length)
        self._head = None
        self.length = HEAD.size + length
        return Data(content) if kind == DATA else message_in(content)


def packed(frame: Frame) -> bytes:
    kind, content = (DATA, frame.content) if isinstance(frame, Data) else (JSON, json_of(frame))
    return HEAD.pack(len(content), kind) + content


def json_of(message: Message) -> bytes:
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:
        return orjson.dumps(valid(cast(Value, message)))  # a Message is a Value


def message_in(content: bytes) -> Message:
    """Raises Unintelligible, also for what `packed` could not say again: deep values and long numbers."""
    try:
        message = parsed(content)
        orjson.dumps(message)
    except (ValueError, RecursionError, orjson.JSONEncodeError):
        raise Unintelligible("no JSON") from None
    if not isinstance(message, dict):
        raise Unintelligible("no message")
    return message


def parsed(content: bytes) -> Value:
    try:
        return cast(Value, orjson.loads(content))
    except (
        orjson.JSONDecodeError
    ):  # which half a surrogate pair is, too; user code prints what it likes
        return valid(cast(Value, json.loads(content)))


def valid(value: Value) -> Value:
    """The same with question marks for lone surrogates, which are no Unicode."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {cast(str, valid(key)): valid(each) for key, each in value.items()}
        case list():
            return [valid(each) for each in value]
        case _:
            return value
