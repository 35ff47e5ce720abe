"""The event log of runs, and its feed: how every stream gets every event once and in order.

Rows are the truth. An event has its place `(epoch, seq)` in its run: `epoch` is that of the holder that wrote it, `seq`
counts up from 1 without gaps. A delta reaches streams of this process at once and is written behind, in groups; an event
that states a fact is published only after its commit (ADR 0003).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.db.failures import patiently
from threadloom.db.insert import insert_missing
from threadloom.db.rows import EventRow, RunRow
from threadloom.db.signal import POLL
from threadloom.db.tails import Tail
from threadloom.db.tx import Tx
from threadloom.eventlog import ENDS, START, Cursor, Event, Found, look, look_for_all
from threadloom.leases import Claim, hold, still_held
from threadloom.outbox import announce
from threadloom.telemetry import metrics
from threadloom.types.run_steps import RunStep
from threadloom.types.runs import Run
from threadloom.types.webhooks import EVENT_TYPES, EventType

P = ParamSpec("P")
R = TypeVar("R")

FLUSH_EVERY = 0.02
"""Seconds that deltas wait for company."""
FLUSH_LATEST = 0.1
CROWD = 40
"""Runs that write at once. The more there are beyond that, the longer deltas wait: each flush locks every one of these runs."""
RETRY_AFTER = 1.0
TOGETHER = 250
"""Streams that are looked after in one transaction."""
MAX_BACKLOG = 2_000
"""Events that a slow reader may lag behind before it reads rows again."""
ANNOUNCED: dict[str, EventType] = {
    # That a run is to be cancelled is announced when its client asks for it: the worker tells its stream later.
    name: name
    for name in EVENT_TYPES
    if name != "thread.run.cancelling"
}
ENDED = {name: name.removeprefix("thread.run.") for name in ENDS - {"thread.run.requires_action"}}
"""What a run's end is called, by the fact that states it."""
log = structlog.get_logger()


@dataclass(kw_only=True)
class RunTx(Tx):
    """A transaction on one run, locked; its facts go into the event log with it."""

    run: RunRow
    facts: list[Event] = field(default_factory=list[Event])
    seq: int = 0

    @classmethod
    def on(cls, tx: Tx, run: RunRow, seq: int = 0) -> "RunTx":
        """The same transaction, on one run whose log stands at `seq`."""
        return cls(
            session=tx.session,
            clock=tx.clock,
            ids=tx.ids,
            woken=tx.woken,
            told=tx.told,
            run=run,
            seq=seq,
        )

    def emit(self, name: str, sent: BaseModel) -> None:
        """Append a fact: the object as it now stands. Webhooks are told of it too."""
        self.append(name, sent.model_dump_json())
        match sent:
            case Run():
                self.announce(name, {"id": sent.id, "thread_id": sent.thread_id})
            case RunStep():
                ids = {"id": sent.id, "run_id": sent.run_id, "thread_id": sent.thread_id}
                self.announce(name, ids)
            case _:
                pass

    def announce(self, name: str, ids: Mapping[str, str]) -> None:
        if name in ANNOUNCED:
            announce(self, self.run.project_id, ANNOUNCED[name], self.run.id, ids)

    def append(self, name: str, data: str) -> None:
        self.seq += 1
        self.facts.append(Event(self.run.epoch, self.seq, name, data))


@contextmanager
def unheld(tx: Tx, run: RunRow) -> Generator[RunTx]:
    """Facts about a run that no worker holds: a new one, or one whose epoch was just raised."""
    run_tx = RunTx.on(tx, run)
    yield run_tx
    store(tx, run.id, run_tx.facts)
    tx.wake(run.id)


def store(tx: Tx, run_id: str, events: Sequence[Event]) -> None:
    # A connection may break when its commit is done but not confirmed: what is there already is the same event.
    if events:
        insert_missing(tx.session, EventRow, ((run_id, *event) for event in events))


class FeedClosed(Exception):
    """The server is shutting down."""


class Subscription:
    """What one open stream has been told and has not taken yet."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._rung = asyncio.Event()
        self._look = False
        self.polled = False
        """Whether nobody had told of what the next look may find."""

    def push(self, events: Sequence[Event]) -> None:
        if len(self._events) < MAX_BACKLOG:
            self._events.extend(events)
        self._rung.set()

    def look(self) -> None:
        """There may be new rows."""
        self._look = True
        self._rung.set()

    async def next_after(self, cursor: Cursor) -> list[Event]:
        """The events that follow `cursor` without a gap; none: time to look at the rows."""
        self.polled = False
        while not self._look:
            if self._events:
                # When there is a gap, what lies between was published before we came; the rows will have it all.
                following, gap = split_at_gap(self._events, cursor)
                self._events.clear()
                self._look = gap
                if following or gap:
                    return following
            self._rung.clear()
            try:
                async with asyncio.timeout(POLL):
                    await self._rung.wait()
            except TimeoutError:
                self.polled = True
                return []
        self._look = False
        return []


def split_at_gap(events: Iterable[Event], cursor: Cursor) -> tuple[list[Event], bool]:
    """Those events that follow `cursor`, one after the other, and whether others come after a gap."""
    following: list[Event] = []
    for event in events:
        if event[:2] == (cursor[0], cursor[1] + 1):
            following.append(event)
            cursor = event[:2]
        elif event[:2] > cursor:
            return following, True
    return following, False


@dataclass(eq=False)
class Asked:
    """A stream that wants to know what follows, and its answer."""

    tail: Tail
    answered: bool = False
    found: Found | None = None


class Feed:
    """The events of runs, as open streams of this process see them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._asked: list[Asked] = []
        self._looking = asyncio.Lock()
        self._closed = False

    def close(self) -> None:
        """End all streams: the process is about to stop."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.look()

    def publish(self, run_id: str, events: Sequence[Event]) -> None:
        for subscription in self._subscriptions.get(run_id, ()):
            subscription.push(events)

    async def follow(self, run_id: str, cursor: Cursor = START) -> AsyncIterator[list[Event]]:
        """Every event after `cursor`, up to the one that ends the stream; what is there at once comes together.

        Raises RunDeleted when the run is deleted meanwhile, FeedClosed when this process stops.
        """
        subscription = Subscription()
        with self._subscribed(run_id, subscription):
            more = True
            while more:
                if self._closed:
                    raise FeedClosed
                stored, more = await self._look(run_id, cursor)
                if stored:
                    if subscription.polled:
                        self._database.signal.missed += 1
                    cursor = stored[-1][:2]
                    yield stored
                while more and (events := await subscription.next_after(cursor)):
                    cursor, more = events[-1][:2], events[-1].name not in ENDS
                    yield events

    async def _look(self, run_id: str, cursor: Cursor) -> Found:
        """What `look` finds. Whoever's turn it is looks for all that wait: a process may have a thousand streams."""
        if cursor != START:
            asked = Asked(Tail(run_id, *cursor))
            self._asked.append(asked)
            async with self._looking:
                while not asked.answered:
                    await self._look_for_all()
            if asked.found:
                return asked.found
        return await patiently(self._database.read, look, run_id, cursor)

    async def _look_for_all(self) -> None:
        asked, self._asked = self._asked[:TOGETHER], self._asked[TOGETHER:]
        try:
            tails = [one.tail for one in asked]
            answers = await patiently(self._database.read, look_for_all, tails)
        except BaseException:
            self._asked = asked + self._asked
            raise
        for one, found in zip(asked, answers, strict=True):
            one.answered, one.found = True, found

    @contextmanager
    def _subscribed(self, run_id: str, subscription: Subscription) -> Generator[None]:
        subscriptions = self._subscriptions.setdefault(run_id, set())
        subscriptions.add(subscription)
        metrics.STREAMS.change(1)
        try:
            with self._database.signal.subscribe(run_id, subscription.look):
                yield
        finally:
            metrics.STREAMS.change(-1)
            subscriptions.discard(subscription)
            if not subscriptions:
                self._subscriptions.pop(run_id, None)


class EventWriter:
    """Writes the deltas of all runs of this process behind, many runs in one transaction."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self.database = database
        self._feed = feed
        self._logs: set[RunLog] = set()
        self._scheduled = asyncio.Event()
        self._flushed = 0

    def open(self, claim: Claim) -> "RunLog":
        return RunLog(self, claim)

    def publish(self, run_id: str, events: Sequence[Event]) -> None:
        self._feed.publish(run_id, events)

    def schedule(self, log: "RunLog") -> None:
        self._logs.add(log)
        self._scheduled.set()

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._scheduled.wait()
            self._scheduled.clear()
            await asyncio.sleep(min(FLUSH_EVERY * max(1.0, self._flushed / CROWD), FLUSH_LATEST))
            try:
                await self.flush()
            except SQLAlchemyError as error:
                log.warning("events not written yet", error=type(error).__name__)
                await asyncio.sleep(RETRY_AFTER)

    async def flush(self) -> None:
        """Write what is pending; a log whose own commit is under way carries its deltas itself."""
        logs = [one for one in self._logs if not one.busy.locked()]
        self._logs.clear()
        self._flushed = len(logs)
        try:
            async with AsyncExitStack() as stack:
                groups: list[tuple[Claim, Sequence[Event]]] = []
                for one in logs:
                    await stack.enter_async_context(one.busy)
                    groups.append((one.claim, stack.enter_context(one.taken())))
                await self.database.write(store_groups, groups)
                metrics.EVENTS_FLUSHED.add(sum(len(events) for _, events in groups))
        except SQLAlchemyError:
            for one in logs:
                self.schedule(one)
            raise


def store_groups(tx: Tx, groups: Sequence[tuple[Claim, Sequence[Event]]]) -> None:
    """Store the deltas of those runs that are still held."""
    held = still_held(tx, RunRow, [claim for claim, _ in groups])
    written = [(claim.id, events) for claim, events in groups if claim in held and events]
    if written:
        rows = ((run_id, *event) for run_id, events in written for event in events)
        insert_missing(tx.session, EventRow, rows)
    for run_id, _ in written:
        tx.tell_others(run_id)


class RunLog:
    """The event log of one claimed run, as its worker writes it."""

    def __init__(self, writer: EventWriter, claim: Claim) -> None:
        self.claim = claim
        self.busy = asyncio.Lock()
        """Held while deltas are on their way to the rows, so that nothing overtakes them."""
        self._writer = writer
        self._seq = 0
        self._pending: list[Event] = []
        self._committing = False

    def delta(self, name: str, data: str) -> None:
        """Send a piece of a message or step at once, and write it with the next group. Not while a commit of the same log is under way."""
        assert not self._committing, "its place is taken by a fact of the commit"
        self._seq += 1
        event = Event(self.claim.epoch, self._seq, name, data)
        self._pending.append(event)
        self._writer.publish(self.claim.id, [event])
        self._writer.schedule(self)

    async def commit(
        self, action: Callable[Concatenate[RunTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an action on the held run; its facts follow all deltas so far. Raises LeaseLost.

        A commit once begun is seen through, even when the caller is cancelled: the log knows what is stored.
        """
        committing = asyncio.ensure_future(self._commit(lambda tx: action(tx, *args, **kwargs)))
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            committing.exception()  # asyncio reports an exception that nobody looked at
            raise

    async def _commit(self, action: Callable[[RunTx], R]) -> R:
        async with self.busy:
            self._committing = True
            try:
                with self.taken() as pending:
                    write = self._writer.database.write
                    given = (self.claim, pending, self._seq, action)
                    result, facts = await patiently(write, commit, *given)
            finally:
                self._committing = False
            self._seq += len(facts)
            self._writer.publish(self.claim.id, facts)
            for fact in facts:
                if status := ENDED.get(fact.name):
                    metrics.RUNS_ENDED.add(status=status)
            return result

    @contextmanager
    def taken(self) -> Generator[Sequence[Event]]:
        """The deltas to write now; put back when writing fails."""
        pending, self._pending = self._pending, []
        try:
            yield pending
        except BaseException:
            self._pending = pending + self._pending
            self._writer.schedule(self)
            raise


def commit(
    tx: Tx, claim: Claim, pending: Sequence[Event], seq: int, action: Callable[[RunTx], R]
) -> tuple[R, list[Event]]:
    """Deltas, then the action, then its facts, in one transaction that holds the run."""
    run = hold(tx, RunRow, claim)
    store(tx, run.id, pending)
    run_tx = RunTx.on(tx, run, seq)
    result = action(run_tx)
    store(tx, run.id, run_tx.facts)
    tx.tell_others(run.id)
    return result, run_tx.facts
