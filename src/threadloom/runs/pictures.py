"""Pictures of messages as a model is sent them: Files as bytes within the request, addresses as links or as bytes too.

A picture that cannot be had becomes a note for the model: it never fails the run.
"""

import asyncio
import base64
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx2
import structlog
from sqlalchemy import select

from threadloom.blobs import Blobs
from threadloom.config import ModelCalls
from threadloom.config.outbound import Outbound
from threadloom.db.database import Database
from threadloom.db.rows import FileRow, RunRow
from threadloom.db.tx import Tx
from threadloom.errors import BlobMissing, StorageUnavailable
from threadloom.files.actions import is_alive
from threadloom.llm.chat import ChatMessage, ImagePart, Part, TextPart, UserMessage
from threadloom.outbound import (
    AddressRefused,
    AnswerTooLarge,
    Guard,
    guarded_client,
    read_limited,
)
from threadloom.runs.transcript import StoredImage

log = structlog.get_logger()

REDIRECTS = 3
FETCHED_AT_ONCE = 4
LONGEST_NAME = 200
BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
GONE = "it is not there"
# The same for a refused address, a lost connection and an error: models shall not tell what is in our network.
UNREACHABLE = "it could not be fetched"
NO_PICTURE = "it is no PNG, JPEG, GIF or WebP picture"
TOO_MUCH = "the pictures are too many or too large"
BLIND = "this model is shown no pictures"


class NotShown(Exception):
    """Why a model is not sent a picture; the words are for the model."""


Fetched = dict[str, bytes | NotShown]
"""What was fetched for a run, by address: each of its turns sees the same, and nobody is asked twice."""


@dataclass
class Allowance:
    """What a request may still carry."""

    pictures: int
    size: int

    def take(self, size: int) -> None:
        """Raises NotShown."""
        if not self.pictures or size > self.size:
            raise NotShown(TOO_MUCH)
        self.pictures -= 1
        self.size -= size


@dataclass(frozen=True)
class Request:
    """What pictures of one request are made from: `files` are the blobs of those that are there."""

    run_id: str
    files: Mapping[str, Sequence[str]]
    fetched: Fetched
    allowance: Allowance


class Pictures:
    """Shows pictures to models. Close it."""

    def __init__(
        self, database: Database, blobs: Blobs, calls: ModelCalls, outbound: Outbound
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._calls = calls
        self._outbound = outbound
        self._guard = Guard(outbound)
        self._fetching = asyncio.Semaphore(FETCHED_AT_ONCE)
        inlines = calls.pictures == "inline"
        self._client = guarded_client(outbound, redirects=REDIRECTS) if inlines else None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def show(
        self, run: RunRow, messages: Sequence[ChatMessage], fetched: Fetched
    ) -> tuple[ChatMessage, ...]:
        """The messages with what a provider understands in the place of pictures. If they are too many, the newest are shown."""
        parts = pictures_in(messages)
        if not parts:
            return tuple(messages)
        if self._client is not None:
            await self._fetch_all(self._client, parts, fetched)
        ids = {part.file_id for part in parts if isinstance(part, StoredImage)}
        files = await self._database.read(blobs_of, run.project_id, ids)
        allowance = Allowance(self._calls.max_pictures, self._calls.max_picture_bytes)
        request = Request(run.id, files, fetched, allowance)
        newest_first = [await self._shown(message, request) for message in reversed(messages)]
        return tuple(reversed(newest_first))

    async def _shown(self, message: ChatMessage, request: Request) -> ChatMessage:
        if not isinstance(message, UserMessage):
            return message
        parts = [
            await self._shown_part(part, request) if isinstance(part, ImagePart) else part
            for part in message.parts
        ]
        return UserMessage(tuple(parts))

    async def _shown_part(self, part: ImagePart, request: Request) -> Part:
        try:
            return await self._picture(part, request)
        except NotShown as reason:
            log.info("picture not shown", run_id=request.run_id, reason=str(reason))
            return note(part, reason)

    async def _picture(self, part: ImagePart, request: Request) -> ImagePart:
        """What is sent of one. Raises NotShown."""
        allowance = request.allowance
        if self._calls.pictures == "never":
            raise NotShown(BLIND)
        if isinstance(part, StoredImage):
            data = await self._read(request.files, part.file_id, allowance.size)
            return await inlined(part, data, allowance)
        if part.url.startswith("data:"):
            allowance.take(len(part.url) * 3 // 4)
            return part
        if self._client is not None:
            data = request.fetched.get(part.url, NotShown(TOO_MUCH))
            if isinstance(data, NotShown):
                raise data
            return await inlined(part, data, allowance)
        self._check(part.url)
        allowance.take(0)
        return part

    def _check(self, url: str) -> None:
        """A provider in our own network is not sent after what is in it, as far as that can be seen from the address."""
        try:
            self._guard.check_url(url)
        except AddressRefused:
            raise NotShown(UNREACHABLE) from None

    async def _read(self, files: Mapping[str, Sequence[str]], file_id: str, limit: int) -> bytes:
        if file_id not in files:
            raise NotShown(GONE)
        data = bytearray()
        try:
            async with aclosing(self._blobs.read(files[file_id])) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > limit:
                        raise NotShown(TOO_MUCH)
        except (BlobMissing, StorageUnavailable):
            raise NotShown(GONE) from None
        return bytes(data)

    async def _fetch_all(
        self, client: httpx2.AsyncClient, parts: Sequence[ImagePart], fetched: Fetched
    ) -> None:
        """Ask for what was not asked for yet, several at once."""
        newest = [part.url for part in parts if is_link(part)][: self._calls.max_pictures]
        missing = [url for url in dict.fromkeys(newest) if url not in fetched]
        await asyncio.gather(*(self._keep(client, url, fetched) for url in missing))

    async def _keep(self, client: httpx2.AsyncClient, url: str, fetched: Fetched) -> None:
        async with self._fetching:
            held = sum(len(data) for data in fetched.values() if isinstance(data, bytes))
            room = self._calls.max_picture_bytes - held
            try:
                fetched[url] = await self._fetch(client, url, min(self._outbound.max_bytes, room))
            except NotShown as reason:
                fetched[url] = reason

    async def _fetch(self, client: httpx2.AsyncClient, url: str, limit: int) -> bytes:
        try:
            async with asyncio.timeout(self._outbound.timeout), client.stream("GET", url) as answer:
                if not answer.is_success:
                    raise NotShown(UNREACHABLE)
                return await read_limited(answer, limit)
        except AnswerTooLarge:
            raise NotShown(TOO_MUCH) from None
        except (AddressRefused, TimeoutError, httpx2.HTTPError, httpx2.InvalidURL):
            raise NotShown(UNREACHABLE) from None


def blobs_of(tx: Tx, project_id: str, ids: Collection[str]) -> dict[str, Sequence[str]]:
    """The blobs of those files that the project has."""
    found = tx.session.execute(
        select(FileRow.id, FileRow.blobs).where(
            FileRow.id.in_(ids), FileRow.project_id == project_id, is_alive(tx)
        )
    )
    return dict(found.all())


async def inlined(part: ImagePart, data: bytes, allowance: Allowance) -> ImagePart:
    """The picture as a data URL. Raises NotShown."""
    kind = kind_of(data)
    if kind is None:
        raise NotShown(NO_PICTURE)
    allowance.take(len(data))
    return ImagePart(await asyncio.to_thread(data_url, kind, data), part.detail)


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def kind_of(data: bytes) -> str | None:
    """The media type, by its first bytes: names and headers are only claims."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for beginning, kind in BEGINNINGS if data.startswith(beginning)), None)


def note(part: ImagePart, reason: NotShown) -> TextPart:
    name = part.file_id if isinstance(part, StoredImage) else part.url
    name = name.partition(",")[0] if name.startswith("data:") else name
    return TextPart(f"[The picture {name[:LONGEST_NAME]} is not shown: {reason}.]")


def is_link(part: ImagePart) -> bool:
    return not isinstance(part, StoredImage) and not part.url.startswith("data:")


def pictures_in(messages: Sequence[ChatMessage]) -> list[ImagePart]:
    """Those of the newest message first."""
    return [
        part
        for message in reversed(messages)
        if isinstance(message, UserMessage)
        for part in message.parts
        if isinstance(part, ImagePart)
    ]
