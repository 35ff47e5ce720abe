"""The outermost layer: addresses, keys, headers, and the last line of defence against a traceback."""

import ipaddress
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadloom.api import browsers
from threadloom.api.answers import error_response, outage
from threadloom.api.bodies import Body, BodyLimits
from threadloom.api.gate import Admission, Gate
from threadloom.api.keys import ADMIN, Keys, masked
from threadloom.db.lane import VISITOR
from threadloom.errors import ApiError, InvalidRequest, Unauthorized
from threadloom.telemetry import metrics

OPENAI_VERSION = "2020-10-01"
ORGANIZATION = "threadloom"
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers of proxies. They only ever close: nobody gets in by sending them."""
UNGATED_PATHS = OPEN_PATHS | {METRICS}
"""Operators look at these when the server has too much to do."""
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS"})
NO_HEADERS: Mapping[str, str] = {}
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    "from your browser and are prompted for a username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)
SERVER_ERROR = (
    "The server had an error processing your request. Sorry about that! You can retry your request. "
    "(Please include the request ID {} when you report this.)"
)
LARGE = 1024 * 1024
"""Bytes of an answer that is not just handed to the connection."""
log = structlog.get_logger()


class Edge:
    """Pure ASGI, because BaseHTTPMiddleware breaks streams."""

    def __init__(
        self, app: ASGIApp, keys: Keys, limits: BodyLimits, gate: Gate, *, open_metrics: bool
    ) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._gate = gate
        self._open_paths = OPEN_PATHS | {METRICS} if open_metrics else OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["asked_path"] = scope["path"]
        scope["path"] = openai_path(scope["path"])
        body = Body(scope, receive, self._limits.at(scope["path"]))
        answer = Answer(scope, body, send)
        if browsers.is_question(scope):
            await browsers.consent(scope)(scope, receive, answer.send)
            return
        structlog.contextvars.bind_contextvars(request_id=answer.request_id)  # of this task alone
        try:
            if scope["path"] not in UNGATED_PATHS:
                answer.admission = self._gate.enter()
            refuse_nul(scope)
            await self._authenticate(scope)
            VISITOR.set(answer.admission)
            body.refuse_announced()
            await self._app(scope, answer.receive, answer.send)
        except ApiError as error:
            await error_response(error)(scope, receive, answer.send)
        except ClientDisconnect:
            log.info("client left", route=route_of(scope))
        except Exception as fault:
            error = outage(fault)
            if error is None:
                log.exception("request broke", route=route_of(scope))
                error = ApiError(SERVER_ERROR.format(answer.request_id))
            if not answer.started:
                await error_response(error)(scope, receive, answer.send)
        finally:
            answer.leave()

    async def _authenticate(self, scope: Scope) -> None:
        """Find the project of the request's key. Raises Unauthorized."""
        if scope["path"] in self._open_paths:
            return
        if not scope["path"].startswith("/v1/") and from_this_machine(scope):
            return
        key = key_of(Headers(scope=scope))
        if not key:
            raise Unauthorized(NO_KEY)
        caller = await self._keys.caller(key)
        if caller is None:
            raise Unauthorized(
                f"Incorrect API key provided: {masked(key)}. You can find your API key at "
                "https://platform.openai.com/account/api-keys.",
                code="invalid_api_key",
            )
        if scope["path"] == METRICS and caller.key_id != ADMIN:
            raise Unauthorized(
                "Only the key of auth.admin_key may read the metrics of this server."
            )
        scope["caller"] = caller
        scope["project_id"] = caller.project_id
        scope["key_id"] = caller.key_id


class Answer:
    """The response on its way out, with the headers that every answer of the hosted service had."""

    def __init__(self, scope: Scope, body: Body, send: Send) -> None:
        self._scope = scope
        self._body = body
        self._send = send
        self._began = time.perf_counter()
        self.request_id = new_request_id()
        self.started = False
        self.admission: Admission | None = None
        self._closes = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["openai-version"] = OPENAI_VERSION
            headers["openai-organization"] = ORGANIZATION
            if project_id := self._scope.get("project_id"):
                headers["openai-project"] = project_id
            headers.update(self._scope.get("rate_headers", NO_HEADERS))
            headers.update(browsers.headers_for(self._scope))
            self._make_room(headers)
            spent = time.perf_counter() - self._began
            headers["openai-processing-ms"] = str(round(spent * 1000))
            method, status = method_of(self._scope), str(message["status"])
            metrics.HTTP_REQUESTS.record(
                spent, method=method, route=route_of(self._scope), status=status
            )
            if self._body.is_unread:
                self._closes = True
                headers["connection"] = "close"
        if self._closes and message["type"] == "http.response.body":
            await self._send({**message, "more_body": True})
            if message.get("more_body"):
                return
            self.leave()
            await self._body.drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def receive(self) -> Message:
        """The next piece of the request's body. Raises BodyTooLarge."""
        if self.admission is None:
            return await self._body.receive()
        return await self.admission.receive(self._body.receive)

    def _make_room(self, headers: MutableHeaders) -> None:
        """What is only to be sent waits for no database, and keeps a place only if it is large: its reader may be slow."""
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        if is_stream or int(headers.get("content-length", LARGE)) < LARGE:
            self.leave()
        elif self.admission is not None:
            self.admission.served()

    def leave(self) -> None:
        """The request makes room for others."""
        if self.admission is not None:
            self.admission.leave()


def route_of(scope: Scope) -> str:
    """The template of the route that took the request: an address has ids in it, and may have anything."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else metrics.OTHER


def method_of(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else metrics.OTHER


def new_request_id() -> str:
    return "req_" + secrets.token_hex(16)


def refuse_nul(scope: Scope) -> None:
    """PostgreSQL cannot even be asked for a text with NUL. Raises InvalidRequest."""
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise InvalidRequest(
            "The address of your request contains a NUL character, which databases cannot store.",
            code="invalid_value",
        )


def openai_path(path: str) -> str:
    """Azure clients call `/openai/…` or `/openai/v1/…`; the API lives at `/v1/…`."""
    if not path.startswith("/openai/"):
        return path
    rest = path.removeprefix("/openai")
    return rest if rest.startswith("/v1/") else "/v1" + rest


def key_of(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("api-key", "").strip()


def from_this_machine(scope: Scope) -> bool:
    """Whether somebody on this machine asks, who is no proxy that says it asks for others."""
    client = scope.get("client")
    if client is None or not ipaddress.ip_address(client[0]).is_loopback:
        return False
    headers = Headers(scope=scope)
    return not any(name in headers for name in FORWARDED)
