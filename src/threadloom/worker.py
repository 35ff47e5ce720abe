"""Drives runs: takes what the queue hands it, stops what must stop, hands back at shutdown."""

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from threadloom import faults
from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.frozen import end_frozen
from threadloom.db.rows import RunRow
from threadloom.db.signal import POLL, Bell
from threadloom.db.tx import Tx
from threadloom.eventlog import forget_events
from threadloom.events import EventWriter, Feed, RunLog, RunTx
from threadloom.leases import Claim, LeaseLost
from threadloom.llm.chat import Models
from threadloom.llm.failures import SORRY
from threadloom.queue import AbortReason, Held, Queue
from threadloom.runs import lifecycle
from threadloom.runs.actions import CONTROL, QUEUE
from threadloom.runs.engine import Cancelling, Engine, Execution, take_up
from threadloom.runs.pictures import Pictures
from threadloom.runs.tools import BuiltInTools

PRUNE_EVERY = 60.0
THAW_EVERY = 3.0
PRUNE_LIMIT = 200
log = structlog.get_logger()


class Worker:
    """Runs what is due, `concurrency` at a time."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        models: Models,
        settings: Runs,
        built_in: BuiltInTools | None = None,
        *,
        download_all: bool = True,
        pictures: Pictures | None = None,
    ) -> None:
        """`download_all`: clients may download Files of every purpose. Without `pictures` models see none."""
        self._database = database
        self._writer = EventWriter(database, feed)
        self._engine = Engine(database, models, built_in or {}, settings, download_all, pictures)
        self._settings = settings
        self._queue = Queue(
            database,
            RunRow,
            QUEUE,
            self._drive,
            concurrency=settings.concurrency,
            lease=settings.lease,
        )
        self._control = Bell()
        self._expiries: dict[Claim, float] = {}

    async def run(self) -> None:
        """Work until drained."""
        with self._database.signal.subscribe(CONTROL, self._control.ring):
            async with asyncio.TaskGroup() as helpers:
                writing = helpers.create_task(self._writer.run())
                watching = helpers.create_task(self._watch())
                await self._queue.run()
                writing.cancel()
                watching.cancel()

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._queue.drain()

    async def _drive(self, held: Held) -> None:
        structlog.contextvars.bind_contextvars(run_id=held.claim.id)  # of this task alone
        run_log = self._writer.open(held.claim)
        try:
            if held.reason is None:
                await held.perform(self._proceed(held, run_log))
        finally:
            self._expiries.pop(held.claim, None)
        if held.reason is not None:
            faults.point("run.stopping")
            await run_log.commit(stop, held.reason)

    async def _proceed(self, held: Held, run_log: RunLog) -> None:
        """Drive the run; when it has to be stopped, `held.reason` says why."""
        try:
            faults.point("run.claimed")
            run = await run_log.commit(take_up)
            if run is not None:
                if run.expires_at is not None:
                    self._expiries[held.claim] = run.expires_at
                await Execution(self._engine, run_log, run).proceed()
        except Cancelling:
            held.reason = AbortReason.CANCELLED
        except (LeaseLost, SQLAlchemyError):
            raise
        except Exception:
            log.exception("run broke")
            held.reason = AbortReason.BROKEN

    async def _watch(self) -> None:
        """Look after the held runs each second, or when a client wants one stopped."""
        loop = asyncio.get_running_loop()
        thawed = loop.time()
        prune_at = thawed + PRUNE_EVERY
        while True:
            await self._control.wait(POLL)
            try:
                await self._stop_cancelled_and_expired()
                if loop.time() - thawed >= THAW_EVERY:
                    await self._database.read(end_frozen)
                    thawed = loop.time()
                if loop.time() >= prune_at:
                    pruned = await self._database.write(prune_events, self._settings.keep_events)
                    # A second later there may be more, and a busy server keeps up.
                    prune_at = loop.time() + (0 if pruned == PRUNE_LIMIT else PRUNE_EVERY)
            except SQLAlchemyError as error:
                log.warning("watching failed", error=type(error).__name__)

    async def _stop_cancelled_and_expired(self) -> None:
        now = self._database.clock.now()
        for claim, expires_at in self._expiries.items():
            if now >= expires_at:
                self._queue.abort(claim.id, AbortReason.EXPIRED)
        if held := [one.claim.id for one in self._queue.held]:
            for run_id in await self._database.read(cancelling_among, held):
                self._queue.abort(run_id, AbortReason.CANCELLED)


def stop(tx: RunTx, reason: AbortReason) -> None:
    """Close the run for the reason it was stopped for, or as its client asked meanwhile."""
    if tx.run.status == "cancelling":
        lifecycle.cancel_run(tx)
    elif reason is AbortReason.EXPIRED:
        lifecycle.expire_run(tx)
    elif reason is AbortReason.BROKEN:
        lifecycle.fail_run(tx, "server_error", SORRY)
    elif reason is AbortReason.SHUTDOWN:
        tx.run.epoch += 1  # a renewal that is under way shall not take it back
        tx.run.attempts = max(tx.run.attempts - 1, 0)
        tx.run.due_at = tx.clock.now()
        tx.wake(QUEUE)


def cancelling_among(tx: Tx, run_ids: Sequence[str]) -> Sequence[str]:
    return tx.session.scalars(
        select(RunRow.id).where(RunRow.id.in_(run_ids), RunRow.status == "cancelling")
    ).all()


def prune_events(tx: Tx, keep: float) -> int:
    """Forget the events of some runs that ended long ago; messages and steps stay. Answers with how many runs it were."""
    old = select(RunRow.id).where(RunRow.kept_since < tx.clock.now() - keep)
    run_ids = tx.session.scalars(old.order_by(RunRow.kept_since).limit(PRUNE_LIMIT)).all()
    forget_events(tx, run_ids)
    return len(run_ids)
