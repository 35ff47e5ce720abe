"""A load generator that costs little: HTTP/1.1 by hand on asyncio streams."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.processes import KEY

END = b"0\r\n\r\n"
READ = 1 << 16
PATIENCE = 120.0


@dataclass(frozen=True)
class Streamed:
    """One streamed answer: seconds to its first token and to its end, from the request."""

    first: float
    whole: float
    tokens: int


@dataclass(frozen=True)
class Request:
    """The bytes of a request; `marker` is in its stream once for each token."""

    content: bytes
    marker: bytes = b""


def request(method: str, path: str, body: object = None, marker: bytes = b"") -> Request:
    content = b"" if body is None else orjson.dumps(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
        f"openai-beta: assistants=v2\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return Request(head.encode() + content, marker)


class Connection:
    """A kept-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._now = time.perf_counter  # uvloop's own clock counts milliseconds

    async def ask(self, asked: Request) -> Any:
        """The JSON of the answer."""
        self._writer.write(asked.content)
        head = await self._head()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return orjson.loads(await self._reader.readexactly(size))

    async def timed(self, asked: Request) -> float:
        began = self._now()
        await self.ask(asked)
        return self._now() - began

    async def pieces(self, asked: Request) -> AsyncGenerator[bytes]:
        """The body of a stream as it comes, chunk marks included."""
        self._writer.write(asked.content)
        await self._head()
        tail = b""
        while tail != END:
            piece = await self._reader.read(READ)
            if not piece:
                raise ConnectionError("The stream was cut.")
            tail = (tail + piece)[-len(END) :]
            yield piece

    async def stream(self, asked: Request) -> Streamed:
        """Read a stream to its end."""
        began = self._now()
        read, first = bytearray(), 0.0
        async for piece in self.pieces(asked):
            read += piece
            if not first and asked.marker in read:
                first = self._now() - began
        return Streamed(first, self._now() - began, read.count(asked.marker))

    async def _head(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        if head[9:12] != b"200":
            rest = await self._reader.read(READ)
            raise RuntimeError((head + rest).decode(errors="replace"))
        return head


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


Ask = Callable[[Connection], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Load:
    """What came of a load, and how long it took."""

    results: list[Any]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.results) / self.seconds


async def load(port: int, ask: Ask, *, clients: int, each: int) -> Load:
    """`clients` connections, on each of which `ask` is called `each` times."""

    async def client() -> list[Any]:
        async with connected(port) as connection:
            return [await ask(connection) for _ in range(each)]

    began = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        lists = await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - began
    return Load([one for results in lists for one in results], seconds)
