"""A process's share of a queue: claims what is due, keeps the leases, hands back at shutdown.

Runs and the ingestion of files are rows of this kind; what is done with a claimed row is its owner's business.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic

import structlog
from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.db.signal import Bell
from threadloom.db.tx import Tx
from threadloom.leases import Claim, LeasedRow, LeaseLost, claim, next_due, renew
from threadloom.telemetry import metrics

CLAIM_EVERY = 0.02
"""Seconds from one claim to the next: of many rows that become due, each would otherwise cost all workers a transaction."""
RENEWALS = 3
"""Renewals within the time of one lease."""
log = structlog.get_logger()


class AbortReason(Enum):
    """Why held work is stopped from outside."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"
    BROKEN = "broken"


@dataclass(eq=False)
class Held:
    """A claimed row in this process's hands."""

    claim: Claim
    task: asyncio.Task[None] | None = None
    reason: AbortReason | None = None

    def abort(self, reason: AbortReason) -> None:
        """Stop the work; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            if self.task is not None:
                self.task.cancel()

    async def perform(self, work: Awaitable[None]) -> None:
        """Do the work until it is done or aborted; `reason` then says why."""
        try:
            # From here on `abort` cancels: a task cancelled before its first step would never clean up.
            self.task = asyncio.current_task()
            await work
        except asyncio.CancelledError:
            if self.reason is None or self.task is None:
                raise
            self.task.uncancel()


class Queue(Generic[LeasedRow]):
    """Works off rows of one kind, `concurrency` at a time."""

    def __init__(
        self,
        database: Database,
        kind: type[LeasedRow],
        channel: str,
        drive: Callable[[Held], Awaitable[None]],
        *,
        concurrency: int,
        lease: float,
        take: Callable[[Tx, float, int], Sequence[Claim]] | None = None,
    ) -> None:
        """`channel` wakes this queue; `drive` does what there is to do for one claimed row, also when it was aborted.

        `take` claims rows for a lease of so many seconds, up to a number of them; otherwise it is the longest due first.
        """
        self._database = database
        self._kind = kind
        self._channel = channel
        self._drive = drive
        self._concurrency = concurrency
        self._lease = lease
        self._take = take or self._take_longest_due
        self._held: dict[str, Held] = {}
        self._bell = Bell()
        self._more = False
        self._draining = False

    @property
    def held(self) -> Sequence[Held]:
        return tuple(self._held.values())

    async def run(self) -> None:
        """Work until drained."""
        with self._database.signal.subscribe(self._channel, self._bell.ring):
            async with asyncio.TaskGroup() as helpers:
                renewing = helpers.create_task(self._keep_leases())
                async with asyncio.TaskGroup() as tasks:
                    await self._claim_until_drained(tasks)
                renewing.cancel()

    def drain(self) -> None:
        """Claim nothing more and stop what is held; `run` then returns."""
        self._draining = True
        self._bell.ring()
        for held in self.held:
            held.abort(AbortReason.SHUTDOWN)

    def abort(self, row_id: str, reason: AbortReason) -> None:
        if held := self._held.get(row_id):
            held.abort(reason)

    async def _claim_until_drained(self, tasks: asyncio.TaskGroup) -> None:
        woken, loop = True, asyncio.get_running_loop()
        while not self._draining:
            began = loop.time()
            try:
                claims = await self._claim(woken=woken)
            except SQLAlchemyError as error:
                log.warning("claiming failed", queue=self._channel, error=type(error).__name__)
                claims = ()
            for one in claims:
                self._start(tasks, one)
            # What did not fit into the free places is claimed when a place is free again.
            woken = await self._bell.wait()
            await asyncio.sleep(began + CLAIM_EVERY - loop.time())

    async def _claim(self, *, woken: bool) -> Sequence[Claim]:
        """Take due rows into the free places. Without a wake-up, a cheap look comes first."""
        free = self._concurrency - len(self._held)
        if free <= 0:
            self._more = True
            return ()
        if not woken:
            due = await self._database.read(next_due, self._kind)
            if due is None or due > self._database.clock.now():
                return ()
            self._database.signal.missed += 1
        claims = await self._database.write(self._take, self._lease, free)
        self._more = len(claims) == free
        return claims

    def _take_longest_due(self, tx: Tx, lease: float, limit: int) -> Sequence[Claim]:
        return claim(tx, self._kind, lease=lease, limit=limit)

    def _start(self, tasks: asyncio.TaskGroup, one: Claim) -> None:
        self.abort(one.id, AbortReason.LEASE_LOST)  # our own lease ran out before we renewed it
        held = self._held[one.id] = Held(one)
        if self._draining:
            held.abort(AbortReason.SHUTDOWN)
        tasks.create_task(self._work(held))

    async def _work(self, held: Held) -> None:
        """One of the outermost loops: whatever happens to held work ends here."""
        row_id = held.claim.id
        started = asyncio.get_running_loop().time()
        try:
            await self._drive(held)
        except LeaseLost:
            held.reason = AbortReason.LEASE_LOST
        except SQLAlchemyError as error:
            # The lease runs out, and whoever claims the row next recovers it.
            log.error("left to its lease", id=row_id, error=type(error).__name__)  # noqa: TRY400
        except Exception:
            log.exception("left to its lease", id=row_id)
        finally:
            self._drop(held)
            seconds = asyncio.get_running_loop().time() - started
            outcome = held.reason.value if held.reason else "rested"
            queue = self._kind.__tablename__
            metrics.WORK.record(seconds, queue=queue, outcome=outcome)
            log.info("left", queue=queue, id=row_id, outcome=outcome, seconds=round(seconds, 3))

    def _drop(self, held: Held) -> None:
        """Free the place; something may wait for it when all places were filled last."""
        if self._held.get(held.claim.id) is held:
            del self._held[held.claim.id]
        if self._more:
            self._bell.ring()

    async def _keep_leases(self) -> None:
        every = self._lease / RENEWALS
        while True:
            await asyncio.sleep(every)
            try:
                await self._renew()
            except SQLAlchemyError as error:
                log.warning("renewing failed", queue=self._channel, error=type(error).__name__)

    async def _renew(self) -> None:
        claims = {held.claim: held for held in self.held}
        if not claims:
            return
        kept = await self._database.write(renew, self._kind, list(claims), lease=self._lease)
        for one, held in claims.items():
            if one not in kept:
                held.abort(AbortReason.LEASE_LOST)
