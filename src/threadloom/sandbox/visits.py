"""What a runner and its visitors say to each other, other than the driver's frames.

A visit is a connection. It begins with one line of JSON each way:

    visitor: {"token", "op": "session" | "end", "key"}  or  {"token", "op": "keys"}
    runner:  {"fresh"}, {"ended"}, {"keys"}  or  {"error"}

Until its line comes, the runner sends empty ones: another visitor may have the key for long. A session goes on with a
driver's frames in both directions, as if the visitor held the driver's streams. After its hello the visitor says `alive`
now and then, and `leave` at the end, after which the runner closes. Who goes without `leave` has crashed.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from threadloom.sandbox.frames import Message, Value

BUFFER = 64 * 1024
"""Bytes that are read ahead; a line can be no longer."""
BEAT_SECONDS = 3.0
QUIET_SECONDS = 15.0
"""Who says nothing for so long is taken for frozen."""
ALIVE: Message = {"op": "alive"}
LEAVE: Message = {"op": "leave"}

Line = Mapping[str, Value]


class Garbled(Exception):
    """What came is no line of JSON."""


async def beat(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Until it is cancelled."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        writer.write(content)


def line_of(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


async def next_line(reader: asyncio.StreamReader, seconds: float) -> Line:
    """The next that is not empty, with so many seconds for each. Raises as `first_line`."""
    content = b"\n"
    while content == b"\n":
        async with asyncio.timeout(seconds):
            content = await content_of_line(reader)
    return line_in(content)


async def first_line(reader: asyncio.StreamReader, seconds: float) -> Line:
    """Raises Garbled, TimeoutError, and ConnectionError when the other side has ended."""
    async with asyncio.timeout(seconds):
        return line_in(await content_of_line(reader))


async def content_of_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil()
    except asyncio.IncompleteReadError:
        raise ConnectionError("the connection ended") from None
    except asyncio.LimitOverrunError:
        raise Garbled("the line is too long") from None


def line_in(content: bytes) -> Line:
    try:
        line = cast(Value, json.loads(content))
    except (ValueError, RecursionError):
        raise Garbled("the line is no JSON") from None
    if not isinstance(line, dict):
        raise Garbled("the line is no object")
    return line


def address_of(url: str) -> str | tuple[str, int]:
    """A socket's path, or host and port. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    if not parts.hostname or not parts.port or parts.path not in ("", "/"):
        raise ValueError("it needs a host and a port")
    return parts.hostname, parts.port
