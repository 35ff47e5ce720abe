"""Checks every answer of the app against OpenAI's document, whoever asked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.contract.document import Document, check_order
from tests.contract.order import FIRST

API = re.compile(r"^(/openai/v1|/openai|/v1)(?=/)")
CONTENT = re.compile(r"/files/[^/]+/content")
ERROR_KEYS = {"message", "type", "param", "code"}
NO_CONTENT = 204
FIRST_ERROR_STATUS = 400
# No request leads to another refusal: a test that makes the server fail says so in `expected_statuses`.
REFUSALS = frozenset({400, 401, 404, 405, 413})
Event = tuple[str, Any]


@dataclass
class Exchange:
    """A request and its answer."""

    method: str
    path: str
    is_resumed: bool
    status: int = 0
    content_type: str = ""
    body: bytearray = field(default_factory=bytearray)

    def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.content_type = Headers(raw=message["headers"]).get("content-type", "")
        else:
            self.body += message.get("body", b"")


class ContractCheck:
    """Stands before the app; what breaks the contract is raised when the test ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._document = Document.load()
        self.faults: list[str] = []
        self.expected_statuses: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not API.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        # The edge rewrites the path, so it is read now.
        exchange = Exchange(scope["method"], API.sub("", scope["path"]), is_resumed(scope))

        async def recorded(message: Message) -> None:
            exchange.take(message)
            await send(message)

        try:
            await self._app(scope, receive, recorded)
        finally:
            self._judge(exchange)

    def raise_faults(self) -> None:
        assert not self.faults, "\n".join(self.faults)

    def _judge(self, exchange: Exchange) -> None:
        try:
            self._check(exchange)
        except (AssertionError, orjson.JSONDecodeError) as fault:
            self.faults.append(
                f"{exchange.method} {exchange.path} -> {exchange.status}: {fault}\n"
                f"{bytes(exchange.body[-2000:]).decode(errors='replace')}"
            )

    def _check(self, exchange: Exchange) -> None:
        if not exchange.status:  # whoever asked has left
            assert 0 in self.expected_statuses
            return
        if exchange.content_type.startswith("text/event-stream"):
            self._check_stream(exchange)
            return
        is_consent = exchange.method == "OPTIONS" and exchange.status == NO_CONTENT
        if is_consent or (
            CONTENT.fullmatch(exchange.path) and exchange.status < FIRST_ERROR_STATUS
        ):
            return
        assert exchange.content_type == "application/json", exchange.content_type
        body = orjson.loads(exchange.body)
        if exchange.status >= FIRST_ERROR_STATUS:
            assert exchange.status in REFUSALS | self.expected_statuses
            assert set(body["error"]) == ERROR_KEYS
        for path, part in described(exchange.method, exchange.path, body):
            self._document.check_response(exchange.method, path, exchange.status, part)

    def _check_stream(self, exchange: Exchange) -> None:
        """A stream that somebody left or took up in its middle has no order that could be checked."""
        events = list(events_of(exchange.body.decode()))
        for name, data in events:
            self._document.check_event(name, data)
        if exchange.path.endswith("/events") and [name for name, _ in events] == ["done"]:
            return  # nothing is kept any more of what this run told
        if not exchange.is_resumed and events and events[-1][0] == "done":
            for stream in streams_of(events):
                check_order(stream)


def is_resumed(scope: Scope) -> bool:
    asked_after = QueryParams(scope["query_string"]).get("after")
    return bool(asked_after or Headers(scope=scope).get("last-event-id"))


def described(method: str, path: str, body: Any) -> Iterator[tuple[str, Any]]:
    """The answer as OpenAI's operations know it: Threadloom lists what OpenAI did not."""
    match method, path:
        case "GET", "/threads" if "data" in body:
            yield from ((f"/threads/{thread['id']}", thread) for thread in body["data"])
        case "GET", "/runs":
            yield "/threads/any/runs", body
        case _, _ if path.startswith(("/webhook_", "/organization/")):
            pass  # not in this part of the document: the SDK's types are compared instead
        case "GET", _ if path.startswith("/models/"):
            yield "/models/any", body  # the names of models may have slashes
        case _:
            yield path, body


def streams_of(events: list[Event]) -> Iterator[list[Event]]:
    """A run's whole log is what all its streams carried, one after the other."""
    stream: list[Event] = []
    for event in events:
        if stream and stream[-1][0] == "thread.run.requires_action" and event[0] != "done":
            yield [*stream, ("done", "[DONE]")]
            stream = []
        stream.append(event)
    # A run that ended while it waited for its client ended in no stream that anybody was given.
    if stream == events or stream[0][0] in FIRST:
        yield stream


def events_of(text: str) -> Iterator[Event]:
    """The finished events of a stream, without its comments."""
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:1] != ":")
        if fields:
            yield fields["event"], read(fields["data"])


def read(data: str) -> Any:
    return cast(Any, data if data == "[DONE]" else orjson.loads(data))
