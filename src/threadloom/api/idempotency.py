"""`Idempotency-Key`: the first answer to a POST is kept, and given to whoever sends the request again.

An answer that is not kept (a stream, a fault, a very large one) can be had again all the same: the request is executed once
more, on a database that hands out what it wrote before (`recorded.py`).
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadloom.api import keyed
from threadloom.api.bodies import BodyLimits
from threadloom.api.keyed import Begun, Keyed, KeyInUse, Stored
from threadloom.api.recorded import Journal, RecordedDatabase
from threadloom.config.idempotency import Idempotency as Rules
from threadloom.db.database import Database
from threadloom.db.signal import POLL, Bell
from threadloom.errors import InvalidRequest

HEADER = b"idempotency-key"
REPLAYED = "idempotent-replayed"
MAX_KEY = 255
MAX_KEPT = 1024 * 1024
"""Bytes of the largest answer that is kept."""
RENEWALS = 3
"""How often a lease is renewed before it would run out."""
PASSING = frozenset({401, 409, 429})
"""Refusals that say nothing about the request itself."""
FIRST_REFUSAL, FIRST_FAULT = 400, 500
log = structlog.get_logger()


class Idempotency:
    """Pure ASGI, inside of what authenticates. Requests without the header pass by."""

    def __init__(
        self, app: ASGIApp, database: Database, rules: Rules, limits: BodyLimits, lease: float
    ) -> None:
        """`lease` is how many seconds a request stays with a process that gives no sign of life."""
        self._app = app
        self._database = database
        self._rules = rules
        self._limits = limits
        self._lease = lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = key_of(scope)
        if key is None or "project_id" not in scope:
            await self._app(scope, receive, send)
            return
        body = None
        # A form with a file is not held in memory: its length has to stand for it.
        if self._limits.at(scope["path"]) is self._limits.json:
            body = await whole(receive)
            receive = again(body, receive)
        request = Keyed(
            scope["project_id"], key, fingerprint(scope, body), holder=secrets.token_hex(8)
        )
        begun = await self._begin(request)
        if isinstance(begun, Stored):
            await replay(begun, send)
        else:
            await self._execute(begun, request, scope, receive, send)

    async def _begin(self, request: Keyed) -> Begun | Stored:
        """Take the request, or wait for its answer. Raises KeyInUse when that takes too long, and KeyReused."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._rules.wait
        signal, bell, rung = self._database.signal, Bell(), True
        with signal.subscribe(request.channel, bell.ring):
            while True:
                found = await self._database.write(
                    keyed.begin, request, lease=self._lease, keep=self._rules.keep
                )
                if found is not None:
                    signal.missed += isinstance(found, Stored) and not rung
                    return found
                if (left := until - loop.time()) <= 0:
                    raise KeyInUse
                rung = await bell.wait(min(left, POLL))

    async def _execute(
        self, begun: Begun, request: Keyed, scope: Scope, receive: Receive, send: Send
    ) -> None:
        journal = Journal(begun.writes)
        scope["is_repeated"] = bool(begun.writes)
        scope["project_database"] = RecordedDatabase(
            self._database, request.project_id, request, journal
        )
        answer = Answer(self._database, request, journal, send, is_repeated=scope["is_repeated"])
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._keep_lease(request))
                try:
                    await self._app(scope, receive, answer.send)
                finally:
                    renewing.cancel()
        except ExceptionGroup as failed:  # of the app: whoever renews handles its own
            error = failed.exceptions[0]
            raise error from error.__cause__
        finally:
            await answer.settle()

    async def _keep_lease(self, request: Keyed) -> None:
        """Renew the lease until somebody else has the request, or nobody needs it any more."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(self._lease / RENEWALS)
            try:
                is_ours = await self._database.write(keyed.renew, request, lease=self._lease)
            except SQLAlchemyError as error:
                log.warning("renewing failed", queue="idempotency", error=type(error).__name__)


@dataclass
class Answer:
    """The answer on its way out; one that is kept is stored before its first byte is sent."""

    database: Database
    request: Keyed
    journal: Journal
    forward: Send
    is_repeated: bool
    start: Message | None = None
    """The head of an answer that is being collected."""
    body: bytes = b""
    is_settled: bool = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.is_repeated:
                MutableHeaders(scope=message)[REPLAYED] = "true"
            if is_kept(message, is_executed=self.journal.is_used):
                self.start = message
                return
            await self.settle()
        elif self.start is not None:
            await self._collect(self.start, message)
            return
        await self.forward(message)

    async def _collect(self, start: Message, message: Message) -> None:
        self.body += message.get("body", b"")
        more = message.get("more_body", False)
        if more and len(self.body) <= MAX_KEPT:
            return
        if len(self.body) > MAX_KEPT:
            await self.settle()
        else:
            await self._keep(start)
        self.start = None
        await self.forward(start)
        await self.forward({"type": "http.response.body", "body": self.body, "more_body": more})

    async def _keep(self, start: Message) -> None:
        headers = {name.lower(): value for name, value in Headers(raw=start["headers"]).items()}
        headers.pop(REPLAYED, None)
        await self._conclude(keyed.finish, Stored(start["status"], headers, self.body))

    async def settle(self) -> None:
        """Let go of the request, unless its answer is kept."""
        await self._conclude(keyed.let_go)

    async def _conclude(self, action: Callable[..., None], *args: object) -> None:
        """Once. If it fails the lease runs out, and whoever sends the request again executes it again."""
        if self.is_settled:
            return
        self.is_settled = True
        try:
            await self.database.write(action, self.request, *args)
        except SQLAlchemyError as error:
            log.warning("answer not kept", error=type(error).__name__)


def is_kept(start: Message, *, is_executed: bool) -> bool:
    """Whether the answer is stored. What was refused before anything was looked up may be sent again corrected."""
    status: int = start["status"]
    if status >= FIRST_FAULT or status in PASSING:
        return False
    if Headers(raw=start["headers"]).get("content-type", "").startswith("text/event-stream"):
        return False
    return is_executed or status < FIRST_REFUSAL


async def replay(answer: Stored, send: Send) -> None:
    headers = answer.headers | {REPLAYED: "true"}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})


def key_of(scope: Scope) -> str | None:
    """The key of a POST. Raises InvalidRequest."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    for name, value in scope["headers"]:
        if name == HEADER:
            return fit(value.decode("latin-1"))
    return None


def fit(key: str) -> str:
    """Raises InvalidRequest."""
    if 0 < len(key) <= MAX_KEY and key.isprintable():
        return key
    raise InvalidRequest(
        f"Invalid 'Idempotency-Key': expected 1 to {MAX_KEY} printable characters, but got {len(key)}"
        + (" instead." if key.isprintable() else ", some of them not printable."),
        code="invalid_idempotency_key",
    )


def fingerprint(scope: Scope, body: bytes | None) -> str:
    """What tells a request from another with the same key. Without a body, its announced length stands for it."""
    digest = hashlib.sha256(scope["path"].encode())
    digest.update(b"?" + scope["query_string"] + b"\n")
    if body is None:
        body = Headers(scope=scope).get("content-length", "").encode()
    digest.update(in_order(body))
    return digest.hexdigest()


def in_order(body: bytes) -> bytes:
    """JSON with sorted keys: some clients write them in another order each time."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return body


async def whole(receive: Receive) -> bytes:
    """Raises ClientDisconnect, and what the edge refuses."""
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with the body that was read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
