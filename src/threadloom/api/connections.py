"""uvicorn's protocol, with refusals that cost little: no task, no ASGI, one write.

A flood is refused as fast as it can be read, or those who were let in would wait behind it.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from httptools import HttpRequestParser
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from threadloom.api.answers import envelope, waiting
from threadloom.api.bodies import SMALL
from threadloom.api.edge import OPENAI_VERSION, ORGANIZATION, UNGATED_PATHS, new_request_id
from threadloom.api.gate import Gate
from threadloom.db.columns import dumps
from threadloom.errors import Overloaded
from threadloom.telemetry import metrics

HARD = 2
"""At so many times the bound a connection is not even answered."""
PATIENCE = 5.0
"""Seconds in which a connection beyond the bound has to ask something, and gets its refusal."""
OPEN = tuple(path.encode() for path in UNGATED_PATHS)


class Answered:
    """Stands for a request that was refused: what of it still comes is thrown away."""

    response_complete = True
    message_event = asyncio.Event()


ANSWERED = cast(RequestResponseCycle, Answered())  # all that the protocol asks of one that is done


class Protocol(HttpToolsProtocol):
    """One connection of a process with a gate, and with a bound on its connections."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
        max_connections: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self._max_connections = max_connections
        self._is_beyond = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn declares it
        super().connection_made(transport)
        if len(self.connections) > HARD * self._max_connections:
            transport.abort()
        elif len(self.connections) > self._max_connections:
            self._is_beyond = True
            self.loop.call_later(PATIENCE, transport.close)

    def on_headers_complete(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        is_free = cycle is None or cycle.response_complete
        refusal = self._refusal() if is_free else None
        if refusal is None:
            super().on_headers_complete()
            return
        self.cycle = ANSWERED
        stays = self._parser.should_keep_alive() and not self._is_beyond
        self.transport.write(encoded(refusal, self.server_state.default_headers, stays=stays))
        if stays:
            self.on_response_complete()
        else:
            self.transport.close()

    @property
    def _parser(self) -> HttpRequestParser:
        assert self.parser is not None, "the connection is open"
        return self.parser

    def _refusal(self) -> Overloaded | None:
        if self.url in OPEN:
            return None
        if self._is_beyond:
            metrics.HTTP_REFUSED.add()
            return Overloaded("The server has too many open connections.")
        if self._gate.is_full() and self._has_little_to_say():
            return self._gate.refusal()
        return None

    def _has_little_to_say(self) -> bool:
        """A large body has to be read for a while (`api/edge.py`), or its client would never see the refusal."""
        headers = dict(self.headers)
        return (
            b"transfer-encoding" not in headers
            and int(headers.get(b"content-length", b"0")) <= SMALL
        )


def protocol_of(gate: Gate, max_connections: int) -> type[asyncio.Protocol]:
    """What uvicorn calls for each connection; it believes that it is a class."""
    made = partial(Protocol, gate=gate, max_connections=max_connections)
    return cast("type[asyncio.Protocol]", made)


def encoded(error: Overloaded, defaults: Sequence[tuple[bytes, bytes]], *, stays: bool) -> bytes:
    """A refusal as it is written, with the headers that all answers have."""
    body = dumps(envelope(error)).encode()
    headers = {
        **waiting(error.retry_after),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": new_request_id(),
        "openai-version": OPENAI_VERSION,
        "openai-organization": ORGANIZATION,
        "openai-processing-ms": "0",
        "connection": "keep-alive" if stays else "close",
    }
    lines = [
        b"HTTP/1.1 503 Service Unavailable",
        *(b"%b: %b" % pair for pair in defaults),
        *(f"{name}: {value}".encode() for name, value in headers.items()),
    ]
    return b"\r\n".join([*lines, b"", body])
