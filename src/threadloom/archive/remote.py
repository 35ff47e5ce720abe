"""Another Assistants server as a source: its lists, page by page, and the bytes of its files."""

import asyncio
import random
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx2
import orjson
from pydantic import SecretStr

from threadloom.archive.contents import NoContent, Pieces
from threadloom.archive.documents import MAX_DOCUMENT, Found, too_deep
from threadloom.archive.reading import KINDS, take
from threadloom.archive.report import Report
from threadloom.archive.saved_files import (
    SavedFile,
)
from threadloom.archive.spool import Spool
from threadloom.errors import StartError
from threadloom.types.shared import JsonObject

TRIES = 6
GONE = 3
"""Requests, one after the other, that had no answer with all tries: then no more are made."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
AGAIN = frozenset({408, 409, 429})
OK, SERVER_FAULT = 200, 500
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
PAGE = 100
SMALLER = 4
"""A page that is too large is asked for with so many times fewer objects."""
ID = re.compile("[A-Za-z0-9_-]{1,128}")
Advance = Callable[[int], None]
T = TypeVar("T")


class Unanswered(Exception):
    """The other server does not give what it was asked for; the text says how."""


class TooLarge(Unanswered):
    """It gives more than is read at once."""


class Refused(Unanswered):
    """It says no."""

    def __init__(self, status: int, path: str) -> None:
        super().__init__(f"the other server answers {path} with {status}")
        self.status = status


class Assistants:
    """The API of another server."""

    def __init__(self, client: httpx2.AsyncClient, query: Mapping[str, str]) -> None:
        self._client = client
        self._query = dict(query)
        self._unanswered = 0

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, url: str, style: str, version: str, key: SecretStr
    ) -> AsyncGenerator[Self]:
        """`url` is what SDKs call the base URL; with Azure's style, the endpoint of the resource."""
        if not url.startswith(("http://", "https://")):
            raise StartError("--from-api must begin with http:// or https://.")
        secret = key.get_secret_value()
        base = url.rstrip("/")
        headers = {"OpenAI-Beta": "assistants=v2"}
        query: dict[str, str] = {}
        if style == "azure":
            base = base if base.endswith("/openai") else base + "/openai"
            headers["api-key"] = secret
            query["api-version"] = version
        else:
            headers["Authorization"] = f"Bearer {secret}"
        async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=TIMEOUT) as client:
            yield cls(client, query)

    async def objects(self, path: str) -> AsyncIterator[JsonObject]:
        """All objects of a list, oldest first. Raises Unanswered."""
        after: str | None = None
        limit = PAGE
        while True:
            page, limit = await self._page(path, limit, after)
            data: Any = page.get("data")
            if not isinstance(data, list):
                raise Unanswered(f"the other server answers {path} with something else than a list")
            for one in data:  # pyright: ignore[reportUnknownVariableType] - any JSON
                if isinstance(one, dict):
                    yield one  # pyright: ignore[reportUnknownVariableType] - any JSON
            last = data[-1].get("id") if data and isinstance(data[-1], dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - any JSON
            if page.get("has_more") is not True or not isinstance(last, str) or last == after:
                return
            after = last

    async def _page(self, path: str, limit: int, after: str | None) -> tuple[JsonObject, int]:
        """A page of at most so many objects, or of fewer if it would be too large; and how many were asked for."""
        while True:
            query = {"limit": str(limit), "order": "asc"} | ({"after": after} if after else {})
            try:
                return await self.one(path, query), limit
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // SMALLER)

    async def one(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        """One JSON object. Raises Unanswered."""
        body = await self._asked(path, query or {}, whole)
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict) or too_deep(body):
            raise Unanswered(f"the other server answers {path} with something else than JSON")
        return value  # pyright: ignore[reportUnknownVariableType] - any JSON

    async def content(self, file_id: str) -> AsyncIterator[bytes]:
        """The bytes of a file. Raises NoContent."""
        try:
            response = await self._asked(f"/files/{file_id}/content", {}, unread)
            try:
                async for piece in response.aiter_bytes():
                    yield piece
            finally:
                await response.aclose()
        except (Unanswered, httpx2.HTTPError) as error:
            raise NoContent(f"its content cannot be had: {error}") from None

    async def _asked(
        self,
        path: str,
        query: Mapping[str, str],
        read: Callable[[str, httpx2.Response], Awaitable[T]],
    ) -> T:
        """What is read of a good answer. Busy servers are asked again, and those that break off. Raises Unanswered."""
        if self._unanswered >= GONE:
            raise Unanswered("the other server has stopped answering")
        request = self._client.build_request("GET", path, params={**query, **self._query})
        problem, wait = Unanswered(), 0.0
        for attempt in range(TRIES):
            await asyncio.sleep(wait)
            wait = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311 - not for secrets
            fault = "does not answer"
            try:
                response = await self._client.send(request, stream=True)
                if response.status_code == OK:
                    self._unanswered = 0
                    fault = "breaks off its answer to"
                    return await read(path, response)
                await response.aclose()
            except httpx2.RequestError as error:
                problem = Unanswered(f"the other server {fault} {path}: {type(error).__name__}")
            else:
                problem = Refused(response.status_code, path)
                if not passes(response.status_code):
                    raise problem
                wait = told_to_wait(response, wait)
        # A fault of its own it may have with some objects and not with others.
        self._unanswered += not (isinstance(problem, Refused) and problem.status == SERVER_FAULT)
        raise problem


async def whole(path: str, response: httpx2.Response) -> bytes:
    """Raises TooLarge."""
    body = bytearray()
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_DOCUMENT:
                raise TooLarge(f"the other server's answer to {path} is too large")
    finally:
        await response.aclose()
    return bytes(body)


async def unread(_: str, response: httpx2.Response) -> httpx2.Response:
    """Whoever asked for it reads it, and closes it."""
    return response


def passes(status: int) -> bool:
    """Whether it may be otherwise soon."""
    return status in AGAIN or status >= SERVER_FAULT


def told_to_wait(response: httpx2.Response, otherwise: float) -> float:
    try:
        return min(max(float(response.headers["retry-after"]), 0.0), LONGEST_PAUSE)
    except (KeyError, ValueError):
        return otherwise


@dataclass(frozen=True)
class Copy:
    """The objects of another server on their way to the spool. `advance` is told of each."""

    server: Assistants
    spool: Spool
    report: Report
    now: int
    advance: Advance

    async def everything(self, thread_ids: Sequence[str] | None) -> None:
        """Without `thread_ids` the other server's list of threads is asked for. Raises StartError."""
        try:
            await self._list("/files")
            for store_id in await self._list("/vector_stores"):
                await self._list(f"/vector_stores/{store_id}/files")
            await self._list("/assistants")
        except Unanswered as error:
            raise StartError(f"Nothing was imported: {error}.") from None
        if thread_ids is None:
            thread_ids = await listed_threads(self.server, self.report)
        for thread_id in thread_ids:
            await self._thread(thread_id)

    async def _thread(self, thread_id: str) -> None:
        """With its messages and runs, or not at all."""
        if not ID.fullmatch(thread_id):
            self.report.skip("threads", thread_id[:128], "--threads", "it is no id of a thread")
            return
        path = f"/threads/{thread_id}"
        try:
            # As if from one list: of threads that began in one second, the first stays the first.
            self._put(await self.server.one(path), "/threads")
            await self._list(f"{path}/messages")
            for run_id in await self._list(f"{path}/runs"):
                await self._list(f"{path}/runs/{run_id}/steps")
        except Unanswered as error:
            self.spool.forget_whole(thread_id)
            self.report.skip("threads", thread_id, path, str(error))

    async def _list(self, path: str) -> list[str]:
        """The ids of what is listed there."""
        ids: list[str] = []
        async for value in self.server.objects(path):
            self._put(value, path)
            ids.append(str(value.get("id")))
        return [one for one in ids if ID.fullmatch(one)]

    def _put(self, value: JsonObject, path: str) -> None:
        kind = KINDS.get(str(value.get("object")))
        if kind is None:
            self.report.skip("entries", "", path, "objects of this kind are not imported")
        else:
            found = Found(value, path, newest_first=False)
            take(found, kind, self.spool, self.report, self.now)
        self.advance(1)


async def listed_threads(server: Assistants, report: Report) -> list[str]:
    """Threadloom lists threads; OpenAI and Azure do not."""
    ids: list[str] = []
    try:
        async for one in server.objects("/threads"):
            ids.append(str(one.get("id")))  # noqa: PERF401 - what was listed before a fault stays
    except Unanswered as error:
        if ids:
            report.note(f"Only {len(ids)} threads are copied, because {error}: repeat the import")
        else:
            report.note(f"No threads are copied, because {error}: give their ids with --threads")
    return ids


class RemoteContents:
    """Files by their ids."""

    def __init__(self, server: Assistants) -> None:
        self._server = server

    def find(self, file: SavedFile) -> str:
        return file.id

    def each(self, places: Sequence[str]) -> Iterator[tuple[str, Pieces]]:
        for place in places:
            yield place, lambda place=place: self._server.content(place)
