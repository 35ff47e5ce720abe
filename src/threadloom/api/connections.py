"""uvicorn's protocol, with refusals that cost little, and bounds on what a client leaves undone.

A refusal is no task, no ASGI and one write. A flood is refused as fast as it can be read, or those who were let in would wait behind it.
Who sends no request, never ends one, or does not read the answers, is cut off: connections are few.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from httptools import HttpRequestParser
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from threadloom.api.answers import envelope, waiting
from threadloom.api.bodies import SMALL
from threadloom.api.browsers import READABLE
from threadloom.api.edge import OPENAI_VERSION, ORGANIZATION, UNGATED_PATHS, new_request_id
from threadloom.api.gate import Gate
from threadloom.db.columns import dumps
from threadloom.errors import ApiError, HeadTooLarge, Overloaded
from threadloom.telemetry import metrics

HARD = 2
"""At so many times the bound a connection is not even answered."""
PATIENCE = 5.0
"""Seconds in which a connection beyond the bound has to ask something, and gets its refusal."""
HEAD_WITHIN = 30.0
"""Seconds in which a request's head has to come, from the connection's begin or after an answer."""
LARGEST_HEAD = 64 * 1024
"""Bytes that may come without ending a head or being of a body: nothing else bounds what the parser keeps."""
UNREAD_FOR = 60.0
"""Seconds that an answer, or the next piece of a long one, may wait for its reader."""
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: the kernel keeps nothing of what was not read."""
OPEN = tuple(path.encode() for path in UNGATED_PATHS)
FOR_PAGES = tuple((name.encode(), value.encode()) for name, value in READABLE.items())


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
        self._unparsed = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn declares it
        super().connection_made(transport)
        if len(self.connections) > HARD * self._max_connections:
            transport.abort()
            return
        self._is_beyond = len(self.connections) > self._max_connections
        self._expect_head(PATIENCE if self._is_beyond else HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > LARGEST_HEAD:
            self._cut_short()
        elif self._is_free and self.timeout_keep_alive_task is None:
            self._expect_head(HEAD_WITHIN)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_FOR, self._reset)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_unread()

    def _expect_head(self, within: float) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(within, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    @property
    def _is_free(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is None or cycle.response_complete

    # What the parser finds

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        self._forget_head()
        refusal = self._refusal() if self._is_free else None
        if refusal is None:
            super().on_headers_complete()
            return
        self.cycle = ANSWERED
        self._answer(refusal, stays=self._parser.should_keep_alive() and not self._is_beyond)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        super().on_message_complete()

    @property
    def _parser(self) -> HttpRequestParser:
        assert self.parser is not None, "the connection is open"
        return self.parser

    # Refusals

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
        """What may cost more than its refusal goes on to `api/edge.py`.

        A large body has to be read for a while, or its client would never see the refusal. And browsers ask whether a page may ask.
        """
        headers = dict(self.headers)
        return (
            self._parser.get_method() != b"OPTIONS"
            and b"transfer-encoding" not in headers
            and int(headers.get(b"content-length", b"0")) <= SMALL
        )

    def _cut_short(self) -> None:
        """Refuse what has no end."""
        if self._is_free:
            self._answer(HeadTooLarge(), stays=False)
        else:
            self._reset()

    def _reset(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, RESET
        )
        self.transport.abort()

    def _answer(self, error: ApiError, *, stays: bool) -> None:
        """To somebody who reads the answers: to anybody else they would pile up here."""
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._reset()
            return
        headers = [*self.server_state.default_headers]
        if any(name == b"origin" for name, _ in self.headers or ()):
            headers += FOR_PAGES
        has_body = self._parser.get_method() != b"HEAD"
        self.transport.write(encoded(error, headers, stays=stays, has_body=has_body))
        if stays:
            self.on_response_complete()
        else:
            self.transport.close()


def protocol_of(gate: Gate, max_connections: int) -> type[asyncio.Protocol]:
    """What uvicorn calls for each connection; it believes that it is a class."""
    made = partial(Protocol, gate=gate, max_connections=max_connections)
    return cast("type[asyncio.Protocol]", made)


def encoded(
    error: ApiError, headers: Sequence[tuple[bytes, bytes]], *, stays: bool, has_body: bool
) -> bytes:
    """A refusal as it is written, with `headers` and those that all answers have."""
    body = dumps(envelope(error)).encode()
    own = {
        **(waiting(error.retry_after) if error.retry_after else {}),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": new_request_id(),
        "openai-version": OPENAI_VERSION,
        "openai-organization": ORGANIZATION,
        "openai-processing-ms": "0",
        "connection": "keep-alive" if stays else "close",
    }
    status = HTTPStatus(error.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}".encode(),
        *(b"%b: %b" % pair for pair in headers),
        *(f"{name}: {value}".encode() for name, value in own.items()),
    ]
    return b"\r\n".join([*lines, b"", body if has_body else b""])
