"""A database that is away, full or not to be written: what clients are told, and that it goes on by itself."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Connection, Engine, event, text

from tests.api.wire import answer, get, make_assistant, make_thread
from tests.runs.driver import Api, names, text_of
from tests.runs.workers import eventually
from tests.support.postgres import Postgres, running_postgres, sqlalchemy_url
from tests.support.server import Running, running_server
from threadloom.db.tx import Tx
from threadloom.errors import DatabaseUnavailable, NoRoom
from threadloom.testing import ScriptedModel, ScriptedModels

AWAY = (503, {"message": DatabaseUnavailable().message, "type": "server_error"})
FULL = (507, {"message": NoRoom().message, "type": "server_error"})


def told(response: httpx2.Response) -> tuple[int, dict[str, str]]:
    """Status, sentence and type of a refusal that is to be tried again."""
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    return response.status_code, {name: error[name] for name in ("message", "type")}


# PostgreSQL, which is stopped and started


@pytest.fixture(scope="module")
def own_postgres() -> Generator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
async def on_postgres(own_postgres: Postgres, model: ScriptedModel) -> AsyncGenerator[Running]:
    with own_postgres.database() as url:
        async with running_server(sqlalchemy_url(url), ScriptedModels(model)) as running:
            running.check.expected_statuses.add(503)
            yield running


async def test_while_postgresql_is_away_everything_is_refused_and_nothing_breaks(
    own_postgres: Postgres, on_postgres: Running
) -> None:
    async with on_postgres.http() as http:
        thread = await make_thread(http, "Hi")
        await asyncio.to_thread(own_postgres.halt)
        asked = (http.get(f"/threads/{thread['id']}") for _ in range(12))
        made = (http.post("/threads", json={}) for _ in range(12))
        assert [told(one) for one in await asyncio.gather(*asked, *made)] == [AWAY] * 24
        root = on_postgres.base_url.removesuffix("/v1")
        assert (await http.get(f"{root}/healthz")).status_code == 200
        assert (await http.get(f"{root}/readyz")).status_code == 503
        await asyncio.to_thread(own_postgres.resume)
        async with asyncio.timeout(20):
            again = [http.get(f"/threads/{thread['id']}") for _ in range(12)]
            assert {one.status_code for one in await asyncio.gather(*again)} == {200}
            made = [http.post("/threads", json={}) for _ in range(12)]
            assert {one.status_code for one in await asyncio.gather(*made)} == {200}


async def test_streams_and_runs_outlast_a_restart_of_postgresql(
    own_postgres: Postgres, on_postgres: Running, model: ScriptedModel
) -> None:
    paused = asyncio.Event()
    model.plays("Hel", paused, "lo")
    model.says("Again")
    async with on_postgres.http() as http:
        talk = await Api(http).talk()
        async with talk.streamed() as stream:
            await stream.until("thread.message.delta")
            await asyncio.to_thread(own_postgres.halt)
            paused.set()
            await asyncio.sleep(0.5)  # the answer is complete, and cannot be written down
            await asyncio.to_thread(own_postgres.resume)
            heard = names(await stream.rest())
        assert heard[-2:] == ["thread.run.completed", "done"]
        assert [text_of(one) for one in await talk.messages()] == ["Hi", "Hello"]
        assert len(model.requests) == 1
        run = await talk.ask()
        assert run["status"] == "completed"


# SQLite, whose file is full or not to be written


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "threadloom.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
async def on_sqlite(sqlite_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    async with running_server(sqlite_url, ScriptedModels(model), with_worker=False) as running:
        running.check.expected_statuses |= {503, 507}
        yield running


def pragma(tx: Tx, statement: str) -> None:
    tx.session.execute(text(f"PRAGMA {statement}"))


def pages(tx: Tx) -> int:
    return tx.session.scalars(text("PRAGMA page_count")).one()


class Guarded:
    """A SQLite file that can be written, or cannot."""

    def __init__(self, engine: Engine) -> None:
        self.read_only = False
        event.listen(engine, "begin", self._on_begin)
        for end in ("commit", "rollback"):
            event.listen(engine, end, self._on_end)

    def _on_begin(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {int(self.read_only)}")

    def _on_end(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = OFF")


async def test_a_full_disk_is_told_and_reads_go_on(on_sqlite: Running) -> None:
    async with on_sqlite.http() as http:
        kept = await make_assistant(http, instructions="x" * 1000)
        size = await on_sqlite.database.write(pages)
        await on_sqlite.database.write(pragma, f"max_page_count = {size}")
        big = {"model": "gpt-4o", "instructions": "x" * 200_000}
        sent = [http.post("/assistants", json=big) for _ in range(20)]
        assert [told(one) for one in await asyncio.gather(*sent)] == [FULL] * 20
        assert await get(http, f"/assistants/{kept['id']}") == kept
        await on_sqlite.database.write(pragma, "max_page_count = 1000000")
        assert answer(await http.post("/assistants", json=big))[0] == 200
        assert len((await get(http, "/assistants"))["data"]) == 2


async def test_a_file_that_cannot_be_written_is_told_and_reads_go_on(on_sqlite: Running) -> None:
    file = Guarded(on_sqlite.database.engine)
    async with on_sqlite.http() as http:
        kept = await make_assistant(http)
        file.read_only = True
        sent = [http.post("/threads", json={}) for _ in range(20)]
        assert [told(one) for one in await asyncio.gather(*sent)] == [AWAY] * 20
        assert await get(http, f"/assistants/{kept['id']}") == kept
        file.read_only = False
        assert answer(await http.post("/threads", json={}))[0] == 200


async def test_a_run_waits_until_the_file_can_be_written(
    on_sqlite: Running, model: ScriptedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Guarded(on_sqlite.database.engine)
    model.says("Hello")
    async with on_sqlite.http() as http, asyncio.TaskGroup() as tasks:
        talk = await Api(http).talk()
        run = await talk.run()
        file.read_only = True
        working = tasks.create_task(on_sqlite.background.run())
        await eventually(lambda: "claiming failed" in capsys.readouterr().out)
        file.read_only = False
        assert (await talk.rested(run))["status"] == "completed"
        on_sqlite.background.drain()
        await working
