"""A port that answers scrapes and nothing else, for processes without HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from threadloom.errors import StartError
from threadloom.telemetry import prometheus

REQUEST_SECONDS = 5.0
LARGEST_REQUEST = 16 * 1024
Tell = Callable[[], Awaitable[bytes]]
"""Gives all metrics of the process as text."""


async def own_metrics() -> bytes:
    """What this process has counted, and nothing that would have to be looked up."""
    return await asyncio.to_thread(prometheus.text)


@asynccontextmanager
async def listening(tell: Tell, host: str, port: int) -> AsyncGenerator[int]:
    """Answer `GET /metrics` on a port of its own until the block ends; gives the port. Raises StartError."""
    prometheus.collect()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await answered(head, tell))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=LARGEST_REQUEST)
    except OSError as error:
        raise StartError(f"Cannot listen on {host}:{port} for metrics: {error}.") from None
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answered(head: bytes, tell: Tell) -> bytes:
    """One HTTP answer; its connection then ends."""
    asked = head.split(b" ", 2)[:2]
    if len(asked) < 2 or asked[0] != b"GET" or asked[1].split(b"?")[0] != b"/metrics":  # noqa: PLR2004
        return http("404 Not Found", b"Only GET /metrics is answered here.\n")
    return http("200 OK", await tell())


def http(status: str, body: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"content-type: {prometheus.CONTENT_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
