"""A server on loopback that does with a connection what a test says."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Handle = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
"""Is given the request's path and writes the answer."""


@asynccontextmanager
async def serving(handle: Handle) -> AsyncGenerator[str]:
    """The server's address; one request a connection. At the end whatever is open is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            with suppress(ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                await handle(head.split(b" ", 2)[1].decode(), writer)
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An HTTP answer that ends its connection."""
    lines = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body
