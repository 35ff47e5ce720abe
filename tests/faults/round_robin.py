"""One address before several servers: each request goes to the next one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import httpx2
import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tests.faults.processes import until

OWN = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
"""Headers of one connection, or that each server writes itself."""


class RoundRobin:
    """Hands on requests and streams of answers as they are."""

    def __init__(self, http: httpx2.AsyncClient, servers: Sequence[str]) -> None:
        self._http = http
        self._servers = cycle(servers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._http.stream(
            scope["method"],
            f"{next(self._servers)}{scope['raw_path'].decode()}?{scope['query_string'].decode()}",
            headers=handed_on(scope["headers"]),
            content=body_of(scope, receive),
        ) as answer:
            headers = handed_on(answer.headers.raw)
            await send(
                {"type": "http.response.start", "status": answer.status_code, "headers": headers}
            )
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


def handed_on(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in OWN]


def body_of(scope: Scope, receive: Receive) -> AsyncIterator[bytes] | None:
    """The request's body as it comes; None when it has none."""
    request = Request(scope, receive)
    has_one = {"content-length", "transfer-encoding"} & set(request.headers)
    return request.stream() if has_one else None


@asynccontextmanager
async def round_robin(servers: Sequence[str]) -> AsyncGenerator[str]:
    """The address of a proxy before these servers (`http://127.0.0.1:8484`)."""
    async with httpx2.AsyncClient(timeout=60) as http:
        config: dict[str, Any] = {"port": 0, "log_level": "error", "lifespan": "off", "ws": "none"}
        server = uvicorn.Server(uvicorn.Config(RoundRobin(http, servers), **config))
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started, "the proxy listens")
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
