"""What a body may be: its size by route, and JSON that is checked before it becomes types."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, cast

import orjson
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from threadloom.api.validation import NOT_JSON, Path, shown
from threadloom.config import Settings
from threadloom.errors import BodyTooLarge, BodyTooSlow, InvalidRequest

MAX_DEPTH = 100
ENVELOPE = 256 * 1024
"""What a form has around its file."""
SMALL = 64 * 1024
"""A body that the server reads with the head of its request, or nearly."""
PIECE_WITHIN = 60.0
"""Seconds in which the next piece of a body has to come: who has lost the network would keep a place for ever."""
DRAINED_FOR = 30.0
DRAINED = 128 * 1024 * 1024
"""Seconds and bytes that a refused client may still send: most send all before they look for an answer."""


@dataclass(frozen=True)
class BodyLimit:
    """What the operator allows, in bytes, and what may come around it."""

    content: int
    envelope: int = 0


@dataclass(frozen=True)
class BodyLimits:
    """The largest bodies."""

    json: BodyLimit
    file: BodyLimit
    part: BodyLimit

    @classmethod
    def of(cls, settings: Settings) -> Self:
        files = settings.files
        return cls(
            json=BodyLimit(settings.server.max_body),
            file=BodyLimit(files.max_bytes, ENVELOPE),
            part=BodyLimit(files.max_part_bytes, ENVELOPE),
        )

    def at(self, path: str) -> BodyLimit:
        if path == "/v1/files":
            return self.file
        if path.startswith("/v1/uploads/") and path.endswith("/parts"):
            return self.part
        return self.json


class Body:
    """A request's body on its way in, up to a limit that only its reader can find out."""

    def __init__(self, scope: Scope, receive: Receive, limit: BodyLimit) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._limit = limit.content
        self._left = limit.content + limit.envelope
        self._length = int(headers.get("content-length", "0"))
        self._is_coming = self._length > 0 or "transfer-encoding" in headers

    def refuse_announced(self) -> None:
        """Raises BodyTooLarge."""
        if self._length > self._left:
            raise BodyTooLarge(self._limit)

    async def receive(self) -> Message:
        """The next piece, or once there is none the client's leaving. Raises BodyTooLarge and BodyTooSlow."""
        try:
            async with asyncio.timeout(PIECE_WITHIN if self._is_coming else None):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._left -= len(message.get("body", b""))
        self._is_coming = message.get("more_body", False)
        if self._left < 0:
            raise BodyTooLarge(self._limit)
        return message

    @property
    def is_unread(self) -> bool:
        """Whether much of it, or nobody knows how much, is still to come."""
        return self._is_coming and not 0 < self._length <= SMALL

    async def drain(self) -> None:
        """Read on for a while: a connection that is reset takes the answer with it."""
        left = DRAINED
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_FOR):
                while self._is_coming and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._is_coming = message.get("more_body", False)


def read_json(body: bytes) -> Any:
    """Strict JSON that a database can store. Raises InvalidRequest."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise too_deep() if "depth" in error.msg else InvalidRequest(NOT_JSON) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and deeper_than(MAX_DEPTH, value):
        raise too_deep()
    if b"\\u0000" in body:
        refuse_nul(value)
    return value


def too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"The JSON body of your request is nested too deeply. Expected at most {MAX_DEPTH} levels.",
        code="invalid_value",
    )


def deeper_than(limit: int, value: object) -> bool:
    """Level by level, because recursion is what this protects from."""
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for _, inner in inside(outer)]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def inside(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, dict):
        yield from cast("dict[str, object]", value).items()
    elif isinstance(value, list):
        yield from enumerate(cast("list[object]", value))


def refuse_nul(value: object, path: Path = ()) -> None:
    """PostgreSQL cannot store NUL in text; better refused here than lost there. Raises InvalidRequest."""
    if isinstance(value, str) and "\0" in value:
        param = shown(path).replace("\0", "\\u0000")
        raise InvalidRequest(
            f"Invalid '{param}': string contains a NUL character, which databases cannot store.",
            param=param or None,
            code="invalid_value",
        )
    for key, inner in inside(value):
        refuse_nul(key, (*path, key))
        refuse_nul(inner, (*path, key))
