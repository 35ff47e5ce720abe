"""Messages between a server and its child processes over pipes: four bytes of length, then the message."""

import asyncio
import struct
from typing import BinaryIO

LENGTH = struct.Struct("<I")


def frame(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


def length_of(head: bytes) -> int:
    length: int = LENGTH.unpack(head)[0]
    return length


def read_message(stream: BinaryIO) -> bytes | None:
    """The next message, in the child; None when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    length = length_of(head)
    message = stream.read(length)
    return message if len(message) == length else None


def write_message(stream: BinaryIO, message: bytes) -> None:
    stream.write(frame(message))
    stream.flush()


class Messages:
    """What a child process sends. A read that was cancelled lost nothing: the next one goes on where it stood."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._length: int | None = None

    async def next(self) -> bytes:
        """Raises asyncio.IncompleteReadError when the child is gone."""
        if self._length is None:
            self._length = length_of(await self._reader.readexactly(LENGTH.size))
        message = await self._reader.readexactly(self._length)
        self._length = None
        return message
