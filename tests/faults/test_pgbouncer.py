"""PgBouncer in transaction mode between Threadloom and PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx2
import psycopg
import pytest
from sqlalchemy import text

from tests.faults.processes import KEY, Fleet, Server, until
from tests.runs.driver import Api, names, text_of
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.engine import POSTGRES_IDLE, POSTGRES_LOCK, POSTGRES_STATEMENT
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.testing.upstream import Upstream

BOUNDS = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")


@pytest.fixture
def direct(postgres: Postgres) -> Generator[str]:
    """An empty database."""
    with postgres.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        yield url


@pytest.fixture
def pooled(direct: str) -> Generator[str]:
    """The same one through PgBouncer."""
    with running_pgbouncer(direct) as url:
        yield url


@pytest.fixture
def fleet(pooled: str, upstream: Upstream, tmp_path: Path) -> Generator[Fleet]:
    fleet = Fleet(tmp_path, pooled, upstream.base_url)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
async def database(pooled: str, direct: str) -> AsyncGenerator[Database]:
    one = Database(
        sqlalchemy_url(pooled),
        clock=SystemClock(),
        ids=RandomIds(),
        direct_url=sqlalchemy_url(direct),
    )
    yield one
    await one.close()


def client(server: Server) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {KEY}"}
    address = f"http://127.0.0.1:{server.port}/v1"
    return httpx2.AsyncClient(base_url=address, headers=headers, timeout=20)


async def transcript(http: httpx2.AsyncClient, answer: str) -> None:
    talk = await Api(http).talk(f"[[text:{answer}]]")
    assert names(await talk.transcript())[-2:] == ["thread.run.completed", "done"]
    assert text_of((await talk.messages())[-1]) == answer


async def test_processes_work_behind_pgbouncer(fleet: Fleet, direct: str) -> None:
    settings = {"THREADLOOM_DATABASE__DIRECT_URL": direct}
    server = fleet.serve(settings, with_worker=False)  # it migrates the empty database
    await server.ready()
    worker = await fleet.worker("one", settings).ready()
    async with client(server) as http:
        # More at once than PgBouncer has connections: each transaction gets another one.
        await asyncio.gather(*(transcript(http, f"Answer {number}") for number in range(12)))
    for process in (server, worker):
        assert '"level": "warning"' not in process.log.read_text()


async def test_a_listener_that_hears_nothing_says_what_mends_it(fleet: Fleet) -> None:
    server = fleet.serve()
    await server.ready()
    await until(
        lambda: "database.direct_url must lead to PostgreSQL itself" in server.log.read_text(),
        "the start says what is wrong",
    )
    async with client(server) as http:
        await transcript(http, "All the same")


def bounds(tx: Tx) -> list[str]:
    return [tx.session.scalars(text(f"SHOW {name}")).one() for name in BOUNDS]


async def test_transactions_are_bounded_behind_pgbouncer(database: Database) -> None:
    each = [one(bounds) for _ in range(10) for one in (database.read, database.write)]
    assert await asyncio.gather(*each) == [
        [POSTGRES_IDLE, POSTGRES_LOCK, POSTGRES_STATEMENT],
    ] * len(each)
