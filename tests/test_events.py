"""The event log: what is written behind, what is fenced off, what happens when the database fails."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from tests.runs.workers import claimed, eventually, opened, queue_runs
from threadloom.db.database import Database
from threadloom.db.tx import Tx
from threadloom.eventlog import Event, RunDeleted, events_after
from threadloom.events import EventWriter, Feed, FeedClosed, RunLog, RunTx
from threadloom.leases import LeaseLost
from threadloom.testing import FrozenClock
from threadloom.types.runs import Run


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def database(database_url: str, clock: FrozenClock) -> AsyncGenerator[Database]:
    async with opened(database_url, clock) as one:
        yield one


@pytest.fixture
def writer(database: Database) -> EventWriter:
    return EventWriter(database, Feed(database))


@pytest.fixture
async def log(database: Database, writer: EventWriter) -> RunLog:
    """The log of a run that was just claimed."""
    await queue_runs(database)
    return writer.open(await claimed(database))


async def stored(database: Database, log: RunLog) -> list[str]:
    """What is stored of the claim, in its order."""
    events = await database.read(events_after, log.claim.id, (log.claim.epoch, 0))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.data for event in events]


def execute(tx: Tx, statement: str) -> None:
    tx.session.execute(text(statement))


def tell(tx: RunTx) -> None:
    tx.append("thread.run.in_progress", "fact")


async def test_deltas_are_stored_when_they_are_flushed(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    log.delta("thread.message.delta", "a")
    log.delta("thread.message.delta", "b")
    assert await stored(database, log) == []
    await writer.flush()
    assert await stored(database, log) == ["a", "b"]
    await writer.flush()
    assert await stored(database, log) == ["a", "b"]


async def test_a_fact_follows_all_deltas_before_it(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    log.delta("thread.message.delta", "a")
    await log.commit(tell)
    log.delta("thread.message.delta", "b")
    await writer.flush()
    assert await stored(database, log) == ["a", "fact", "b"]


async def test_deltas_of_a_lost_lease_are_not_stored(
    database: Database, writer: EventWriter, log: RunLog, clock: FrozenClock
) -> None:
    log.delta("thread.message.delta", "a")
    clock.advance(60)
    await claimed(database)
    await writer.flush()
    assert await stored(database, log) == []
    with pytest.raises(LeaseLost):
        await log.commit(tell)


async def test_a_commit_that_is_under_way_bears_no_deltas(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    begun, released = threading.Event(), threading.Event()

    def slow(tx: RunTx) -> None:
        begun.set()
        released.wait(5)
        tell(tx)

    committing = asyncio.create_task(log.commit(slow))
    await eventually(begun.is_set)
    with pytest.raises(AssertionError, match="its place is taken"):
        log.delta("thread.message.delta", "a")
    await writer.flush()
    released.set()
    await committing
    log.delta("thread.message.delta", "b")
    await writer.flush()
    assert await stored(database, log) == ["fact", "b"]


async def test_a_commit_once_begun_is_seen_through_when_its_caller_is_stopped(
    database: Database, log: RunLog
) -> None:
    begun, released = threading.Event(), threading.Event()

    def slow(tx: RunTx) -> None:
        begun.set()
        released.wait(5)
        tell(tx)

    committing = asyncio.create_task(log.commit(slow))
    await eventually(begun.is_set)
    committing.cancel()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await log.commit(tell)
    assert await stored(database, log) == ["fact", "fact"]


async def test_deltas_are_kept_when_the_database_fails(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    log.delta("thread.message.delta", "a")
    await database.write(execute, "ALTER TABLE events RENAME TO gone")
    with pytest.raises(SQLAlchemyError):
        await writer.flush()
    with pytest.raises(SQLAlchemyError):
        await log.commit(tell)
    log.delta("thread.message.delta", "b")
    await database.write(execute, "ALTER TABLE gone RENAME TO events")
    await writer.flush()
    assert await stored(database, log) == ["a", "b"]


async def test_the_writer_outlives_a_failing_database(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    await database.write(execute, "ALTER TABLE events RENAME TO gone")
    log.delta("thread.message.delta", "a")
    writing = asyncio.create_task(writer.run())
    with capture_logs() as logs:
        await eventually(lambda: logs)
    await database.write(execute, "ALTER TABLE gone RENAME TO events")
    while not await stored(database, log):
        pass
    writing.cancel()
    assert [entry["event"] for entry in logs] == ["events not written yet"]


async def test_an_event_is_a_line_of_json(database: Database, log: RunLog) -> None:
    def emit(tx: RunTx) -> None:
        tx.emit("thread.run.queued", Run.model_validate(tx.run))

    await log.commit(emit)
    (line,) = await stored(database, log)
    assert line.startswith('{"id":"run_')
    assert "\n" not in line


async def test_a_closed_feed_ends_its_streams(database: Database, log: RunLog) -> None:
    feed = Feed(database)
    feed.close()
    with pytest.raises(FeedClosed):
        await anext(feed.follow(log.claim.id))


async def test_a_run_that_never_was_cannot_be_followed(database: Database) -> None:
    with pytest.raises(RunDeleted):
        await anext(Feed(database).follow("run_1"))


async def test_an_event_that_came_before_its_elders_waits_for_the_rows(
    database: Database,
) -> None:
    feed = Feed(database)
    writer = EventWriter(database, feed)
    (run,) = await queue_runs(database)
    log = writer.open(await claimed(database))
    log.delta("thread.message.delta", "a")
    async with aclosing(flat(feed.follow(run))) as following:
        assert [(await anext(following)).seq for _ in range(3)] == [1, 2, 3]
        third = asyncio.ensure_future(anext(following))
        log.delta("thread.message.delta", "b")
        log.delta("thread.message.delta", "c")
        await writer.flush()
        rest = [await third, await anext(following), await anext(following)]
    assert [event.data for event in rest] == ["a", "b", "c"]


async def flat(groups: AsyncIterator[Sequence[Event]]) -> AsyncGenerator[Event]:
    async for group in groups:
        for event in group:
            yield event


async def followed(feed: Feed, log: RunLog) -> list[str]:
    """What a stream is told that has seen the first event."""
    said: list[str] = []
    async for events in feed.follow(log.claim.id, (log.claim.epoch, 1)):
        said.extend(event.data for event in events)
    return said


async def test_a_stream_that_leaves_while_it_reads_for_others_leaves_them_nothing_unread(
    database: Database, writer: EventWriter, log: RunLog
) -> None:
    feed = Feed(database)  # another process's: it hears of nothing but the rows
    await log.commit(tell)
    streams = [asyncio.create_task(followed(feed, log)) for _ in range(3)]
    await asyncio.sleep(0)  # all three have asked, and the first reads
    streams[0].cancel()
    await log.commit(lambda tx: tx.append("thread.run.completed", "end"))
    assert await asyncio.gather(*streams[1:]) == [["end"], ["end"]]
    assert streams[0].cancelled()
