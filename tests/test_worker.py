"""The worker: how many runs it drives, what it renews, what it survives."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.runs.workers import claimed, doomed, eventually, opened, queue_runs, started
from threadloom import worker
from threadloom.clock import SystemClock
from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.eventlog import START, events_after
from threadloom.events import Feed
from threadloom.runs import engine
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels
from threadloom.types.tools import FunctionDefinition, FunctionTool
from threadloom.worker import Worker, prune_events


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def database(database_url: str, clock: FrozenClock) -> AsyncGenerator[Database]:
    async with opened(database_url, clock) as one:
        yield one


def worker_on(database: Database, model: ScriptedModel, **settings: float) -> Worker:
    return Worker(
        database, Feed(database), ScriptedModels(model), Runs.model_validate(settings), {}
    )


def row(tx: Tx, run_id: str) -> tuple[str, int, float | None]:
    run = tx.session.query(RunRow).filter_by(id=run_id).one()
    return run.status, run.epoch, run.due_at


async def until_status(database: Database, run_id: str, status: str) -> None:
    while (await database.read(row, run_id))[0] != status:
        pass


def execute(tx: Tx, statement: str) -> None:
    tx.session.execute(text(statement))


async def test_a_worker_drives_no_more_runs_than_it_may(
    database: Database, model: ScriptedModel
) -> None:
    paused = asyncio.Event()
    for _ in range(3):
        model.waits(paused, "Hello")
    runs = await queue_runs(database, 3)
    worker = worker_on(database, model, concurrency=2)
    async with started(worker):
        await eventually(lambda: len(model.requests) == 2)
        statuses = [(await database.read(row, run))[0] for run in runs]
        assert sorted(statuses) == ["in_progress", "in_progress", "queued"]
        paused.set()
        for run in runs:
            await until_status(database, run, "completed")


async def test_a_drained_worker_hands_its_runs_back_at_once(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.waits(asyncio.Event(), "Hello")
    model.says("Hello")
    (run,) = await queue_runs(database)
    async with started(worker_on(database, model)):
        await eventually(lambda: model.requests)
    assert (await database.read(row, run))[2] == clock.now()
    async with started(worker_on(database, model)):
        await until_status(database, run, "completed")


async def test_a_lease_is_renewed_however_short_it_is(
    database_url: str, model: ScriptedModel
) -> None:
    paused = asyncio.Event()
    model.waits(paused, "Hello")
    async with opened(database_url, SystemClock()) as database:
        (run,) = await queue_runs(database)
        async with started(worker_on(database, model, lease=0.3)):
            await eventually(lambda: model.requests)
            due: set[float | None] = set()
            while len(due) < 6:
                _, epoch, until = await database.read(row, run)
                due.add(until)
                assert epoch == 1
            paused.set()
            await until_status(database, run, "completed")


async def test_a_worker_that_overslept_its_own_lease_goes_on_once(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.plays("Lost", asyncio.Event())
    model.says("Hello")
    (run,) = await queue_runs(database)
    with capture_logs() as logs:
        async with started(worker_on(database, model)):
            await eventually(lambda: model.requests)
            clock.advance(60)
            await until_status(database, run, "completed")
            await eventually(lambda: len(outcomes(logs)) == 2)
    assert sorted(outcomes(logs)) == ["lease lost", "rested"]
    assert len(model.requests) == 2


async def test_a_run_that_another_worker_took_is_let_go(
    database: Database, model: ScriptedModel, clock: FrozenClock, database_url: str
) -> None:
    model.plays("Lost", asyncio.Event())
    (run,) = await queue_runs(database)
    with capture_logs() as logs:
        async with started(worker_on(database, model, lease=0.9)):
            await eventually(lambda: model.requests)
            async with opened(database_url, clock) as other:
                await take_over(other, run)
            await eventually(lambda: outcomes(logs))
    assert outcomes(logs) == ["lease lost"]
    assert (await database.read(row, run))[1] == 2


async def take_over(database: Database, run_id: str) -> None:
    """Claim a run whose lease still lasts, as a worker whose clock is ahead."""
    raised = f"UPDATE runs SET epoch = epoch + 1 WHERE id = '{run_id}'"
    await database.write(execute, raised)


def outcomes(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why runs were let go."""
    return [entry["outcome"] for entry in logs if entry["event"] == "left"]


async def test_a_worker_outlives_a_failing_database(
    database: Database, model: ScriptedModel
) -> None:
    model.says("Hello")
    await database.write(execute, "ALTER TABLE runs RENAME TO gone")
    with capture_logs() as logs:
        async with started(worker_on(database, model)):
            await eventually(lambda: logs)
            await database.write(execute, "ALTER TABLE gone RENAME TO runs")
            (run,) = await queue_runs(database)
            await until_status(database, run, "completed")
    assert logs[0]["event"] == "claiming failed"


async def test_a_run_is_left_to_its_lease_when_the_database_fails(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    paused = asyncio.Event()
    model.waits(paused, "Hello")
    model.says("Hello")
    (run,) = await queue_runs(database)
    with capture_logs() as logs:
        async with started(worker_on(database, model)):
            await eventually(lambda: model.requests)
            await database.write(execute, "ALTER TABLE run_steps RENAME TO gone")
            paused.set()
            await eventually(lambda: "left to its lease" in {one["event"] for one in logs})
            await database.write(execute, "ALTER TABLE gone RENAME TO run_steps")
            clock.advance(60)
            await until_status(database, run, "completed")


async def test_a_run_that_waits_for_its_client_is_not_worked_on(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    """A worker may be told to stop between asking the client and letting the run go."""
    model.calls(("weather", "{}"))
    weather = FunctionTool(type="function", function=FunctionDefinition(name="weather"))
    (run,) = await queue_runs(database, tools=[weather])
    async with started(worker_on(database, model)):
        await until_status(database, run, "requires_action")
    expires = (await database.read(row, run))[2]
    await database.write(execute, f"UPDATE runs SET due_at = {clock.now()}")
    async with started(worker_on(database, model)):
        while (await database.read(row, run))[2] != expires:
            pass
    assert (await database.read(row, run))[0] == "requires_action"


async def test_what_no_wake_up_announced_is_counted(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.says("Hello")
    model.says("Hello")
    (lost,) = await queue_runs(database)
    await claimed(database)
    (announced,) = await queue_runs(database)
    async with started(worker_on(database, model)):
        await until_status(database, announced, "completed")
        assert database.signal.missed == 0
        clock.advance(60)
        await until_status(database, lost, "completed")
    assert database.signal.missed == 1


async def test_events_of_ended_runs_are_forgotten_after_a_while(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.says("Hello")
    (run,) = await queue_runs(database)
    async with started(worker_on(database, model)):
        await until_status(database, run, "completed")
    clock.advance(99)
    await database.write(prune_events, 100)
    assert await database.read(events_after, run, START)
    clock.advance(2)
    await database.write(prune_events, 100)
    assert not await database.read(events_after, run, START)
    assert [events async for events in Feed(database).follow(run)] == []


async def test_many_runs_are_forgotten_one_group_after_the_other(
    database: Database, model: ScriptedModel, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PRUNE_EVERY", 0.0)
    monkeypatch.setattr(worker, "PRUNE_LIMIT", 2)
    for _ in range(5):
        model.says("Hello")
    runs = await queue_runs(database, 5)
    async with started(worker_on(database, model, keep_events=100)):
        for run in runs:
            await until_status(database, run, "completed")
        monkeypatch.setattr(worker, "PRUNE_EVERY", 3600.0)  # after the next time
        clock.advance(101)
        await until_pruned(database, runs)


async def until_pruned(database: Database, runs: Sequence[str]) -> None:
    for run in runs:
        while await database.read(events_after, run, START):
            pass


async def test_a_run_that_takes_its_worker_down_each_time_is_given_up(
    database: Database, model: ScriptedModel, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_ATTEMPTS", 3)
    (run,) = await queue_runs(database)
    for attempt in range(3):
        model.waits(asyncio.Event(), "Hello")
        async with doomed(database, ScriptedModels(model), {}):
            await eventually(lambda seen=attempt: len(model.requests) > seen)
        clock.advance(60)
    async with started(worker_on(database, model)):
        await until_status(database, run, "failed")
    assert len(model.requests) == 3


async def test_a_run_that_is_handed_back_has_lost_no_attempt(
    database: Database, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_ATTEMPTS", 1)
    model.waits(asyncio.Event(), "Hello")
    model.says("Hello")
    (run,) = await queue_runs(database)
    async with started(worker_on(database, model)):
        await eventually(lambda: model.requests)
    async with started(worker_on(database, model)):
        await until_status(database, run, "completed")


async def test_a_killed_worker_leaves_its_run_to_the_next(
    database: Database, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.waits(asyncio.Event(), "Hello")
    model.says("Hello")
    (run,) = await queue_runs(database)
    async with doomed(database, ScriptedModels(model), {}):
        await eventually(lambda: model.requests)
    clock.advance(60)
    async with started(worker_on(database, model)):
        await until_status(database, run, "completed")
