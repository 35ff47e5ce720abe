"""Frames: four bytes of length, one of kind, and so many bytes. The driver speaks them with the host, and with its kernel."""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, cast

HEAD = struct.Struct("!IB")
JSON = ord("J")
DATA = ord("D")
MAX_FRAME = 1024 * 1024
PIECE = 256 * 1024
MAX_PICTURE = 10 * 1024 * 1024
SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}

Message = dict[str, Any]


class Nonsense(Exception):
    """The other side sent what is no frame, or none that may come now."""


def message(fields: Mapping[str, object]) -> bytes:
    return framed(JSON, json.dumps(fields).encode())


def framed(kind: int, content: bytes) -> bytes:
    return HEAD.pack(len(content), kind) + content


def pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield framed(DATA, content[start : start + PIECE])


def parsed(content: bytes) -> Message:
    """Raises Nonsense."""
    try:
        fields: object = json.loads(content)
    except (ValueError, RecursionError):
        raise Nonsense("no JSON") from None
    if not isinstance(fields, dict):
        raise Nonsense("no message")
    return cast(Message, fields)  # JSON has no other keys than strings


def is_picture(media_type: object, content: bytes) -> bool:
    return (
        isinstance(media_type, str)
        and media_type in SIGNATURES
        and content.startswith(SIGNATURES[media_type])
        and len(content) <= MAX_PICTURE
    )


class Inbox:
    """Cuts what arrives into frames. `largest` has a length for each kind that may come."""

    def __init__(self, largest: Mapping[int, int]) -> None:
        self._largest = largest
        self._received = bytearray()

    def add(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that are complete now. Raises Nonsense."""
        self._received += received
        while len(self._received) >= HEAD.size:
            length, kind = HEAD.unpack_from(self._received)
            if length > self._largest.get(kind, -1):
                raise Nonsense("no frame, or too large")
            end = HEAD.size + length
            if len(self._received) < end:
                return
            content = bytes(self._received[HEAD.size : end])
            del self._received[:end]
            yield kind, content
