"""How many connections a process holds open."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from threadloom.api.answers import error_response
from threadloom.errors import Overloaded

HARD = 2
"""At so many times the bound a connection is not even answered."""
PATIENCE = 5.0
"""Seconds in which a connection beyond the bound has to ask something, and gets its refusal."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with its `limit_concurrency` as a bound on connections that is refused in OpenAI's shape."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bound, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn declares it
        super().connection_made(transport)
        if self._bound is None or len(self.connections) <= self._bound:
            return
        if len(self.connections) > HARD * self._bound:
            transport.abort()
        else:
            self.app = Refusing(self.app)
            self.loop.call_later(PATIENCE, transport.close)


class Refusing:
    """What a connection beyond the bound reaches: one answer, and health."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        refusal = error_response(Overloaded("The server has too many open connections."))
        refusal.headers["connection"] = "close"
        await refusal(scope, receive, send)
