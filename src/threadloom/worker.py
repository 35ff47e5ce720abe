"""Drives runs: claims what is due, keeps its leases, stops what must stop, hands back at shutdown."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.rows import EventRow, RunRow
from threadloom.db.signal import POLL, Bell
from threadloom.db.tx import Tx
from threadloom.events import EventWriter, Feed, RunLog, RunTx
from threadloom.leases import Claim, LeaseLost, claim, next_due, renew
from threadloom.llm.chat import Models
from threadloom.runs import lifecycle
from threadloom.runs.actions import CONTROL, QUEUE
from threadloom.runs.engine import Cancelling, Engine, Execution, take_up
from threadloom.runs.tools import BuiltInTools

RENEWALS = 3
"""Renewals within the time of one lease."""
PRUNE_EVERY = 60.0
PRUNE_LIMIT = 200
log = structlog.get_logger()


class AbortReason(Enum):
    """Why a run is stopped from outside."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"
    BROKEN = "broken"


@dataclass(eq=False)
class Held:
    """A run in this worker's hands."""

    log: RunLog
    task: asyncio.Task[None] | None = None
    reason: AbortReason | None = None
    expires_at: float | None = None

    def abort(self, reason: AbortReason) -> None:
        """Stop the run; the first reason counts."""
        if self.reason is None:
            self.reason = reason
            if self.task is not None:
                self.task.cancel()


class Worker:
    """Runs what is due, `concurrency` at a time."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        models: Models,
        settings: Runs,
        built_in: BuiltInTools | None = None,
    ) -> None:
        self._database = database
        self._writer = EventWriter(database, feed)
        self._engine = Engine(database, models, built_in or {}, settings)
        self._settings = settings
        self._held: dict[str, Held] = {}
        self._queue = Bell()
        self._control = Bell()
        self._draining = False

    async def run(self) -> None:
        """Work until drained."""
        signal = self._database.signal
        with (
            signal.subscribe(QUEUE, self._queue.ring),
            signal.subscribe(CONTROL, self._control.ring),
        ):
            async with asyncio.TaskGroup() as helpers:
                writing = helpers.create_task(self._writer.run())
                watching = helpers.create_task(self._watch())
                async with asyncio.TaskGroup() as runs:
                    await self._claim_until_drained(runs)
                writing.cancel()
                watching.cancel()

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._draining = True
        self._queue.ring()
        for held in self._held.values():
            held.abort(AbortReason.SHUTDOWN)

    async def _claim_until_drained(self, runs: asyncio.TaskGroup) -> None:
        woken = True
        while not self._draining:
            try:
                claims = await self._claim(woken=woken)
            except SQLAlchemyError as error:
                log.warning("claiming failed", error=type(error).__name__)
                claims = ()
            for one in claims:
                self._start(runs, one)
            # What did not fit into the free places is claimed when one of them is free again.
            woken = await self._queue.wait()

    async def _claim(self, *, woken: bool) -> Sequence[Claim]:
        """Take due runs into the free places. Without a wake-up, a cheap look comes first."""
        free = self._settings.concurrency - len(self._held)
        if free <= 0:
            return ()
        if not woken:
            due = await self._database.read(next_due, RunRow)
            if due is None or due > self._database.clock.now():
                return ()
            self._database.signal.missed += 1
        return await self._database.write(claim, RunRow, lease=self._settings.lease, limit=free)

    def _start(self, runs: asyncio.TaskGroup, one: Claim) -> None:
        if lost := self._held.get(one.id):  # our own lease ran out before we renewed it
            lost.abort(AbortReason.LEASE_LOST)
        held = self._held[one.id] = Held(self._writer.open(one))
        if self._draining:
            held.abort(AbortReason.SHUTDOWN)
        runs.create_task(self._drive(held))

    async def _drive(self, held: Held) -> None:
        """One of the outermost loops: whatever happens to a run ends here."""
        run_id = held.log.claim.id
        started = asyncio.get_running_loop().time()
        try:
            if held.reason is None:
                # From here on `abort` cancels: a task cancelled before its first step would never clean up.
                held.task = asyncio.current_task()
                await self._proceed(held)
            if held.reason is not None:
                await held.log.commit(stop, held.reason)
        except LeaseLost:
            held.reason = AbortReason.LEASE_LOST
        except SQLAlchemyError as error:
            # The lease runs out, and whoever claims the run next recovers it.
            log.error("run left to its lease", run_id=run_id, error=type(error).__name__)  # noqa: TRY400
        except Exception:
            log.exception("run left to its lease", run_id=run_id)
        finally:
            self._drop(held)
            seconds = round(asyncio.get_running_loop().time() - started, 3)
            outcome = held.reason.value if held.reason else "rested"
            log.info("run left", run_id=run_id, outcome=outcome, seconds=seconds)

    def _drop(self, held: Held) -> None:
        """Free the run's place; when there was no other, something may wait for it."""
        full = len(self._held) >= self._settings.concurrency
        if self._held.get(held.log.claim.id) is held:
            del self._held[held.log.claim.id]
        if full:
            self._queue.ring()

    async def _proceed(self, held: Held) -> None:
        """Drive the run; when that is stopped from outside, `held.reason` says why."""
        try:
            run = await held.log.commit(take_up)
            if run is not None:
                held.expires_at = run.expires_at
                await Execution(self._engine, held.log, run).proceed()
        except Cancelling:
            held.reason = AbortReason.CANCELLED
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if held.reason is None or task is None:
                raise
            task.uncancel()
        except (LeaseLost, SQLAlchemyError):
            raise
        except Exception:
            log.exception("run broke", run_id=held.log.claim.id)
            held.reason = AbortReason.BROKEN

    async def _watch(self) -> None:
        """Look after the held runs each second, or when a client wants one stopped."""
        loop = asyncio.get_running_loop()
        renewed = pruned = loop.time()
        renew_every = self._settings.lease / RENEWALS
        while True:
            await self._control.wait(min(POLL, renew_every))
            try:
                await self._stop_cancelled_and_expired()
                if loop.time() - renewed >= renew_every:
                    await self._renew()
                    renewed = loop.time()
                if loop.time() - pruned >= PRUNE_EVERY:
                    await self._database.write(prune_events, self._settings.keep_events)
                    pruned = loop.time()
            except SQLAlchemyError as error:
                log.warning("watching failed", error=type(error).__name__)

    async def _stop_cancelled_and_expired(self) -> None:
        now = self._database.clock.now()
        for held in self._held.values():
            if held.expires_at is not None and now >= held.expires_at:
                held.abort(AbortReason.EXPIRED)
        if self._held:
            for run_id in await self._database.read(cancelling_among, list(self._held)):
                if held := self._held.get(run_id):
                    held.abort(AbortReason.CANCELLED)

    async def _renew(self) -> None:
        claims = {held.log.claim: held for held in self._held.values()}
        if not claims:
            return
        kept = await self._database.write(renew, RunRow, list(claims), lease=self._settings.lease)
        for one, held in claims.items():
            if one not in kept:
                held.abort(AbortReason.LEASE_LOST)


def stop(tx: RunTx, reason: AbortReason) -> None:
    """Close the run for the reason it was stopped for, or as its client asked meanwhile."""
    if tx.run.status == "cancelling":
        lifecycle.cancel_run(tx)
    elif reason is AbortReason.EXPIRED:
        lifecycle.expire_run(tx)
    elif reason is AbortReason.BROKEN:
        lifecycle.fail_run(tx, "server_error", "Sorry, something went wrong.")
    elif reason is AbortReason.SHUTDOWN:
        tx.run.epoch += 1  # a renewal that is under way shall not take it back
        tx.run.due_at = tx.clock.now()
        tx.wake(QUEUE)


def cancelling_among(tx: Tx, run_ids: Sequence[str]) -> Sequence[str]:
    return tx.session.scalars(
        select(RunRow.id).where(RunRow.id.in_(run_ids), RunRow.status == "cancelling")
    ).all()


def prune_events(tx: Tx, keep: float) -> None:
    """Forget the events of runs that ended long ago; messages and steps stay."""
    ended = select(RunRow).where(RunRow.kept_since < tx.clock.now() - keep).limit(PRUNE_LIMIT)
    for run in tx.session.scalars(ended):
        tx.session.execute(delete(EventRow).where(EventRow.run_id == run.id))
        run.kept_since = None
