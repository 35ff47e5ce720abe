"""Transactions: what is committed together, what is undone alone, and what outlives a fault."""

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Generator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.runs.workers import eventually, opened
from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.db.database import Database
from threadloom.db.engine import create_engine
from threadloom.db.frozen import end_frozen
from threadloom.db.notify import MAX_PAYLOAD, payloads
from threadloom.db.signal import Bell
from threadloom.db.tx import Tx

COUNT = "SELECT created_at FROM projects WHERE name = 'counter'"
LOCK = text("SELECT pg_advisory_xact_lock(:number)")
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def counter(database: Database) -> Database:
    """A database with a number to count up."""
    await database.write(
        execute, "INSERT INTO projects (id, name, created_at) VALUES ('proj_1', 'counter', 0)"
    )
    return database


def execute(tx: Tx, statement: str) -> None:
    tx.session.execute(text(statement))


def count(tx: Tx) -> int:
    return tx.session.scalar(text(COUNT)) or 0


def increment(tx: Tx) -> int:
    """Read, think, write: what loses updates when two do it at once."""
    lock = "" if tx.session.get_bind().dialect.name == "sqlite" else " FOR UPDATE"
    value = (tx.session.scalar(text(COUNT + lock)) or 0) + 1
    execute(tx, f"UPDATE projects SET created_at = {value} WHERE name = 'counter'")
    return value


def increment_and_fail(tx: Tx) -> None:
    increment(tx)
    raise ZeroDivisionError


async def test_eight_concurrent_increments_are_eight(counter: Database) -> None:
    values = await asyncio.gather(*(counter.write(increment) for _ in range(8)))
    assert sorted(values) == list(range(1, 9))
    assert await counter.read(count) == 8


async def test_two_processes_lose_no_update(counter: Database, database_url: str) -> None:
    async with opened(database_url) as other:
        both = [one.write(increment) for _ in range(8) for one in (counter, other)]
        await asyncio.gather(*both)
    assert await counter.read(count) == 16


async def test_an_action_that_raises_undoes_only_itself(counter: Database) -> None:
    outcomes = await asyncio.gather(
        *(
            counter.write(increment_and_fail if number % 3 == 0 else increment)
            for number in range(9)
        ),
        return_exceptions=True,
    )
    failures = [one for one in outcomes if isinstance(one, ZeroDivisionError)]
    assert len(failures) == 3
    assert await counter.read(count) == 6


async def test_a_fault_of_the_database_belongs_to_its_action(counter: Database) -> None:
    outcomes = await asyncio.gather(
        counter.write(increment),
        counter.write(execute, "SELECT * FROM nowhere"),
        counter.write(increment),
        return_exceptions=True,
    )
    assert [isinstance(one, SQLAlchemyError) for one in outcomes] == [False, True, False]
    assert await counter.read(count) == 2


async def test_an_action_whose_caller_left_is_done_all_the_same(counter: Database) -> None:
    left = asyncio.ensure_future(counter.write(increment))
    await asyncio.sleep(0)
    left.cancel()
    while not await counter.read(count):
        pass
    assert await counter.write(increment) == 2


async def test_what_is_queued_is_finished_before_the_database_closes(database_url: str) -> None:
    async with opened(database_url) as one:
        await one.write(
            execute, "INSERT INTO projects (id, name, created_at) VALUES ('proj_1', 'counter', 0)"
        )
        queued = [asyncio.ensure_future(one.write(increment)) for _ in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*queued)
    async with opened(database_url) as another:
        assert await another.read(count) == 20


def wake(tx: Tx, channel: str) -> None:
    tx.wake(channel)


def wake_and_fail(tx: Tx, channel: str) -> None:
    tx.wake(channel)
    raise ZeroDivisionError


async def test_a_wake_up_comes_after_the_commit_and_only_then(counter: Database) -> None:
    rung: list[str] = []
    with counter.signal.subscribe("here", lambda: rung.append("here")):
        await counter.write(wake, "here")
        with pytest.raises(ZeroDivisionError):
            await counter.write(wake_and_fail, "here")
        await counter.write(wake, "elsewhere")
    await counter.write(wake, "here")
    assert rung == ["here"]


async def test_one_of_two_subscribers_may_leave(counter: Database) -> None:
    rung: list[str] = []
    with counter.signal.subscribe("here", lambda: rung.append("one")):
        with counter.signal.subscribe("here", lambda: rung.append("other")):
            await counter.write(wake, "here")
        await counter.write(wake, "here")
    assert sorted(rung) == ["one", "one", "other"]


async def test_a_bell_remembers_that_it_was_rung() -> None:
    bell = Bell()
    bell.ring()
    assert await bell.wait(60)
    assert not await bell.wait(0.001)


def test_many_channels_need_several_payloads() -> None:
    channels = [f"run_{number:024d}" for number in range(600)]
    sent = list(payloads("origin", channels))
    assert len(sent) == 3
    assert all(len(payload) <= MAX_PAYLOAD for payload in sent)
    assert [name for payload in sent for name in payload.split(" ")[1:]] == channels


# PostgreSQL only: two processes and the connections between them


@pytest.fixture
def postgres_url(postgres: Postgres) -> Generator[str]:
    with postgres.database() as url:
        yield sqlalchemy_url(url)


async def until_heard(said_by: Database, heard: list[str]) -> None:
    """Say it until it is heard: a listener needs a moment to listen."""
    while not heard:
        await said_by.write(wake, "here")
        await asyncio.sleep(0.01)


async def test_a_wake_up_reaches_the_other_process(postgres_url: str) -> None:
    heard: list[str] = []
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        with other.signal.subscribe("here", lambda: heard.append("here")):
            await until_heard(one, heard)


async def test_a_listener_that_was_cut_off_listens_again(postgres_url: str) -> None:
    heard: list[str] = []
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        with other.signal.subscribe("here", lambda: heard.append("here")):
            await until_heard(one, heard)
            await one.read(execute, f"{OTHERS} AND query LIKE 'LISTEN%'")
            heard.clear()
            await until_heard(one, heard)


async def test_a_connection_that_was_cut_off_is_opened_again(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        await asyncio.gather(*(one.write(count) for _ in range(8)))
        await asyncio.gather(*(one.read(count) for _ in range(8)))
        await other.write(execute, OTHERS)
        assert await asyncio.gather(*(one.write(count) for _ in range(8))) == [0] * 8
        assert await asyncio.gather(*(one.read(count) for _ in range(8))) == [0] * 8


async def test_a_connection_that_is_lost_under_its_action_fails_it(postgres_url: str) -> None:
    async with opened(postgres_url) as one:
        with pytest.raises(SQLAlchemyError):
            await one.write(execute, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert await one.write(count) == 0


@pytest.mark.parametrize("is_asked", [False, True])
async def test_a_lost_connection_leaves_no_cursor_open(postgres_url: str, is_asked: bool) -> None:
    """What reads piece by piece is the driver's own cursor, and the driver warns of one that nobody closed."""
    engine = create_engine(postgres_url)

    def cut_off(process: int) -> None:
        with engine.begin() as other:
            other.execute(text(f"SELECT pg_terminate_backend({process}, 5000)"))

    def read_in_pieces(tx: Tx) -> None:
        process = tx.session.scalar(text("SELECT pg_backend_pid()"))
        if not is_asked:
            cut_off(process)
        numbers = text("SELECT generate_series(1, 9)")
        with tx.session.execute(numbers, execution_options={"yield_per": 1}) as rows:
            if is_asked:
                cut_off(process)
            rows.all()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with opened(postgres_url) as one:
            with pytest.raises(SQLAlchemyError):
                await one.write(read_in_pieces)
            assert await one.write(count) == 0
        gc.collect()
    assert [str(each.message) for each in told if each.category is ResourceWarning] == []


class Crossing:
    """Two actions that each lock what the other one wants next."""

    def __init__(self) -> None:
        self._both = threading.Barrier(2)
        self.begun = 0

    def lock(self, tx: Tx, first: int, second: int) -> int:
        self.begun += 1
        tx.session.execute(LOCK, {"number": first})
        if self.begun <= 2:
            self._both.wait(10)
        tx.session.execute(LOCK, {"number": second})
        return first


async def test_an_action_that_stood_still_too_long_is_done_again(postgres_url: str) -> None:
    """PostgreSQL ends the transaction, and says so when it is to be committed."""
    pauses = [0.5, 0.0]

    def slowly(tx: Tx) -> int:
        bound = "SET LOCAL idle_in_transaction_session_timeout = '100ms'"
        tx.session.execute(text(bound))
        time.sleep(pauses.pop(0))
        return len(pauses)

    async with opened(postgres_url) as database:
        assert await database.write(slowly) == 0


async def test_the_transaction_of_a_frozen_process_is_ended(postgres_url: str) -> None:
    libpq = postgres_url.replace("postgresql+psycopg", "postgresql")
    async with opened(postgres_url) as database:
        with psycopg.connect(libpq, application_name="threadloom") as frozen:
            frozen.execute("SELECT 1")
            await database.read(end_frozen)
            frozen.execute("SELECT 1")  # it has not stood still for long
            await asyncio.sleep(0.3)
            await database.read(end_frozen, seconds=0.2)
            with pytest.raises(psycopg.OperationalError):
                frozen.execute("SELECT 1")


async def test_of_two_actions_that_wait_for_each_other_none_fails(postgres_url: str) -> None:
    crossing = Crossing()
    async with opened(postgres_url) as one:
        done = await asyncio.gather(one.write(crossing.lock, 1, 2), one.write(crossing.lock, 2, 1))
    assert done == [1, 2]
    assert crossing.begun == 3


async def test_a_closed_loop_hears_nothing(postgres_url: str) -> None:
    database: list[Database] = []

    async def leave_open() -> None:
        database.append(Database(postgres_url, clock=None, ids=None))  # pyright: ignore[reportArgumentType] - no action uses them

    await asyncio.to_thread(asyncio.run, leave_open())
    async with opened(postgres_url) as one:
        heard: list[str] = []
        async with opened(postgres_url) as other:
            with other.signal.subscribe("here", lambda: heard.append("here")):
                await until_heard(one, heard)
    await eventually(lambda: database)
    await database[0].close()
