"""What a key or project may use. docs/limits.md tells what is refused where, ADR 0016 why."""

from collections import defaultdict
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadloom.api.allowances import REQUESTS, Allowance, due_runs, examine, rate_headers, reached
from threadloom.api.keys import Caller
from threadloom.api.rates import Rates
from threadloom.config.limits import Limits as Defaults
from threadloom.db.database import Database, ProjectDatabase
from threadloom.errors import InvalidRequest, Overloaded
from threadloom.files.storage import stored_bytes
from threadloom.types.limits import LimitOverrides
from threadloom.usage import Sliding

CREATED = 200
LOOK_EVERY = 1.0
LOOK_AGAIN_AFTER = 0.1
"""Seconds for which the length of the line is believed; less when a run would be refused for it."""
STORAGE_FULL = (
    "You have exceeded your file storage quota. Projects are limited to {} bytes of files. "
    "Please delete old files or attempt with a smaller file size."
)


class RequestLimits:
    """Counts requests. Pure ASGI, just inside of what authenticates; without a limit it costs a few comparisons."""

    def __init__(self, app: ASGIApp, database: Database, defaults: Defaults) -> None:
        self._app = app
        self._default = defaults.requests_per_minute
        self._rates = Rates(database)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get("caller")
        if caller is not None:
            self._count_request(scope, caller)
        await self._app(scope, receive, send)

    def _count_request(self, scope: Scope, caller: Caller) -> None:
        """Raises RateLimited."""
        limit = (
            caller.key.requests_per_minute or caller.project.requests_per_minute or self._default
        )
        if limit is None:
            return
        standing = self._rates.standing(caller.key_id)
        if wait := standing.wait(limit):
            tell(scope, "requests", limit, standing)
            raise reached(caller.key_id, REQUESTS, limit, standing.used, wait)
        self._rates.count(caller.key_id)
        tell(scope, "requests", limit, self._rates.standing(caller.key_id))


class WorkLimits:
    """Lets runs and files in. Pure ASGI, inside of what answers repeated requests: what was done already is not refused."""

    def __init__(
        self, app: ASGIApp, database: Database, defaults: Defaults, max_queued_runs: int
    ) -> None:
        self._app = app
        self._database = database
        self._defaults = LimitOverrides.model_validate(defaults.model_dump())
        self._line = Line(database, max_queued_runs)
        self._arrivals: defaultdict[str, Arrivals] = defaultdict(Arrivals)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get("caller")
        if caller is not None and scope["method"] == "POST" and not scope.get("is_repeated"):
            if creates_run(scope["path"]):
                await self._admit_run(scope, caller)
                send = self._line.counting(send)
            elif uploads(scope["path"]):
                await self._admit_file(scope, caller, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit_run(self, scope: Scope, caller: Caller) -> None:
        """Raises Overloaded and RateLimited."""
        await self._line.look()
        project = self._defaults.model_copy(update=caller.project.model_dump(exclude_none=True))
        for allowance in (Allowance(project), Allowance(caller.key, caller.key_id)):
            if allowance.is_bounded:
                database = self._database.project(caller.project_id)
                found = await database.read(examine, allowance)
                if found.tokens and allowance.limits.tokens_per_minute:
                    tell(scope, "tokens", allowance.limits.tokens_per_minute, found.tokens)
                if found.refusal:
                    raise found.refusal

    async def _admit_file(self, scope: Scope, caller: Caller, receive: Receive, send: Send) -> None:
        """Let bytes in up to what is left; what comes at the same time counts as if it were stored. Raises InvalidRequest."""
        limit = caller.project.storage or self._defaults.storage
        if limit is None:
            await self._app(scope, receive, send)
            return
        database = self._database.project(caller.project_id)
        arrivals = self._arrivals[caller.project_id]
        room = limit - await arrivals.stored_in(database) - arrivals.coming
        coming = Coming(receive, limit, arrivals, arrivals.came + room)
        announced = int(Headers(scope=scope).get("content-length", "0"))
        try:
            coming.take(announced)
            await self._app(scope, receive if announced else coming.receive, send)
        finally:
            coming.end()


def creates_run(path: str) -> bool:
    return path.startswith("/v1/threads/") and path.endswith("/runs")


def uploads(path: str) -> bool:
    return path == "/v1/files" or (path.startswith("/v1/uploads/") and path.endswith("/parts"))


def tell(scope: Scope, kind: str, limit: int, standing: Sliding) -> None:
    """Put a limit into the answer's headers, whoever answers."""
    scope.setdefault("rate_headers", {}).update(rate_headers(kind, limit, standing))


@dataclass
class Arrivals:
    """Bytes of a project's uploads: how many are coming in now, how many came since this process started, and how many uploads have ended."""

    coming: int = 0
    came: int = 0
    ended: int = 0

    async def stored_in(self, database: ProjectDatabase) -> int:
        """What is stored: an upload that ends meanwhile would be neither in that nor among what is coming."""
        while True:
            ended = self.ended
            stored = await database.read(stored_bytes)
            if self.ended == ended:
                return stored


class Coming:
    """A body on its way in, until as much came for its project as there was room for."""

    def __init__(self, receive: Receive, limit: int, arrivals: Arrivals, most: int) -> None:
        self._receive = receive
        self._limit = limit
        self._arrivals = arrivals
        self._most = most
        self._taken = 0

    def take(self, size: int) -> None:
        """Raises InvalidRequest."""
        if self._arrivals.came + size > self._most:
            raise InvalidRequest(STORAGE_FULL.format(self._limit))
        self._arrivals.came += size
        self._arrivals.coming += size
        self._taken += size

    def end(self) -> None:
        """It is stored, or it broke off."""
        self._arrivals.coming -= self._taken
        self._arrivals.ended += 1

    async def receive(self) -> Message:
        """Raises InvalidRequest."""
        message = await self._receive()
        self.take(len(message.get("body", b"")))
        return message


class Line:
    """How many runs wait for a worker, as this process knows: looked up now and then, and counted up meanwhile."""

    def __init__(self, database: Database, longest: int) -> None:
        self._database = database
        self._longest = longest
        self._length = 0
        self._looked = float("-inf")

    async def look(self) -> None:
        """Raises Overloaded when no run may join."""
        now = self._database.clock.now()
        believed = LOOK_EVERY if self._length < self._longest else LOOK_AGAIN_AFTER
        if not 0 <= now - self._looked < believed:
            self._looked = now
            self._length = await self._database.read(due_runs, self._longest)
        if self._length >= self._longest:
            raise Overloaded("Too many runs are waiting. Please try again in a moment.")

    def counting(self, send: Send) -> Send:
        """Sends an answer, and counts the run that it tells of."""

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == CREATED:
                self._length += 1
            await send(message)

        return count
