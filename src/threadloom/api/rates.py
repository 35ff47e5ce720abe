"""Requests in a minute, by key: each process counts in memory, and learns about once a second what the others have counted."""

import asyncio
import secrets
from collections.abc import Mapping
from contextvars import Context

import structlog
from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.usage import Counts, Sliding, exchange, minute_of

EXCHANGE_EVERY = 1.0
log = structlog.get_logger()


class Rates:
    """The counts of one process, by key and minute. Lives on the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._process = secrets.token_hex(8)
        self._own: dict[tuple[str, int], int] = {}
        self._others: Counts = {}
        self._exchanged = -EXCHANGE_EVERY
        self._scheduled = False
        self._exchanging: asyncio.Task[None] | None = None

    def standing(self, key_id: str) -> Sliding:
        """What of the key's requests counts now."""
        now = self._database.clock.now()
        scope, minute = scope_of(key_id), minute_of(now)
        counted: tuple[Mapping[tuple[str, int], int], ...] = (self._own, self._others)
        previous, current = (
            sum(counts.get((scope, one), 0) for counts in counted) for one in (minute - 1, minute)
        )
        return Sliding(previous, current, now)

    def count(self, key_id: str) -> None:
        """A request of the key is let through."""
        place = (scope_of(key_id), minute_of(self._database.clock.now()))
        self._own[place] = self._own.get(place, 0) + 1
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        """Whoever counts first after an exchange sees to the next one, so a server that nobody asks is silent."""
        self._scheduled = True
        loop = asyncio.get_running_loop()
        due = max(loop.time(), self._exchanged + EXCHANGE_EVERY)
        loop.call_at(due, self._start, context=Context())  # it is no part of the request

    def _start(self) -> None:
        self._exchanging = asyncio.create_task(self._exchange())

    async def _exchange(self) -> None:
        self._scheduled = False
        self._exchanged = asyncio.get_running_loop().time()
        kept = minute_of(self._database.clock.now()) - 1
        self._own = {place: used for place, used in self._own.items() if place[1] >= kept}
        try:
            self._others = await self._database.write(exchange, self._process, dict(self._own))
        except SQLAlchemyError as error:
            log.warning("counts not exchanged", error=type(error).__name__)


def scope_of(key_id: str) -> str:
    return f"requests:{key_id}"
