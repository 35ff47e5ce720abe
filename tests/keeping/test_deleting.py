"""Deletion deletes: after it, not one byte of a marked text is anywhere."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select, text

from tests.api.wire import get, make_run, post, run_to_end, succeeded
from tests.keeping.places import Place, Places, migrated
from tests.keeping.world import FUNCTION, call, everything, fill, listed, reaches
from tests.support.s3 import running_s3
from tests.support.server import Running, running_server
from threadloom.blobs import open_blobs
from threadloom.config import Settings
from threadloom.db.engine import create_engine, is_sqlite
from threadloom.db.rows import EventRow
from threadloom.db.tx import Tx
from threadloom.files.sweeping import SKEW
from threadloom.testing import (
    FakeSandbox,
    FrozenClock,
    LineParser,
    ScriptedModel,
    ScriptedModels,
)

MARK = "Quuxmarkzanzibar"
DAY = 86_400


async def traces(place: Place) -> list[str]:
    """Where the mark stands: in files of the data directory, in columns, in objects."""
    return [*in_files(place.folder), *in_columns(place), *(await in_objects(place))]


def in_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and MARK.encode() in path.read_bytes():
            yield str(path.relative_to(folder))


def in_columns(place: Place) -> list[str]:
    """Of PostgreSQL; SQLite's are in its file."""
    engine = create_engine(place.url)
    if is_sqlite(engine):
        return []
    spellings = {"text": f"%{MARK}%", "hex": f"%{MARK.encode().hex()}%"}
    with engine.connect() as connection:
        tables = connection.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).all()
        found = [
            table
            for table in tables
            if connection.scalar(
                text(
                    f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE :text OR t::text LIKE :hex'
                ),
                spellings,
            )
        ]
    engine.dispose()
    return found


async def in_objects(place: Place) -> list[str]:
    """Keys of all that is stored: nothing is to be left."""
    blobs = open_blobs(Settings.model_validate(place.settings, context=None))
    return [key async for some in blobs.keys() for key in some]  # noqa: SIM118 - it is no dict


def events(tx: Tx) -> list[str]:
    return list(tx.session.scalars(select(EventRow.name)))


async def deleted(http: httpx2.AsyncClient) -> None:
    """Everything that the API can delete."""
    for kind in ("assistants", "threads", "vector_stores", "files"):
        for one in await listed(http, f"/{kind}"):
            succeeded(await http.delete(f"/{kind}/{one['id']}"))


async def swept(server: Running, clock: FrozenClock) -> None:
    clock.advance(SKEW + 1)
    await server.background.sweep()


@pytest.mark.parametrize("storage", ["sqlite", "postgresql", "s3"])
async def test_nothing_is_left_of_what_was_deleted(places: Places, storage: str) -> None:
    if storage == "s3":
        with running_s3() as address:
            await assert_nothing_left(migrated(places.new("postgresql", s3=address)))
    else:
        await assert_nothing_left(migrated(places.new(storage)))


async def assert_nothing_left(place: Place) -> None:
    clock, model, sandbox = FrozenClock(), ScriptedModel(), FakeSandbox()
    async with (
        running_server(
            place.url,
            ScriptedModels(model),
            settings=place.settings,
            sandbox=sandbox,
            parser=LineParser(),
            clock=clock,
        ) as server,
        server.http() as http,
    ):
        made = await fill(server, http, model, sandbox, MARK)
        await everything(http, MARK)
        assert await traces(place)
        await http.post(f"/uploads/{made['upload']}/cancel")
        await deleted(http)
        await swept(server, clock)
        assert await traces(place) == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_deleted_message_is_in_no_stream_any_more(places: Places, database: str) -> None:
    place = migrated(places.new(database))
    clock, model = FrozenClock(), ScriptedModel()
    model.says(f"It is {MARK}.")
    async with (
        running_server(
            place.url, ScriptedModels(model), settings=place.settings, clock=clock
        ) as server,
        server.http() as http,
    ):
        run = await run_to_end(http)
        path = f"/threads/{run['thread_id']}"
        assert MARK in (await http.get(f"{path}/runs/{run['id']}/events")).text
        (said,) = [one for one in await listed(http, f"{path}/messages") if one["run_id"]]
        succeeded(await http.delete(f"{path}/messages/{said['id']}"))
        assert await server.database.read(events) == []
        await swept(server, clock)
        assert await traces(place) == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_message_deleted_while_its_run_goes_on_is_in_no_stream_once_it_has_ended(
    places: Places, database: str
) -> None:
    place = migrated(places.new(database))
    clock, model = FrozenClock(), ScriptedModel()
    model.says_then_calls([f"It is {MARK}."], call("weather"))
    model.says("Done.")
    async with (
        running_server(
            place.url, ScriptedModels(model), settings=place.settings, clock=clock
        ) as server,
        server.http() as http,
    ):
        run = await reaches(http, await make_run(http, tools=[FUNCTION]), "requires_action")
        path, stream = f"/threads/{run['thread_id']}", f"/runs/{run['id']}/events"
        (said,) = [one for one in await listed(http, f"{path}/messages") if one["run_id"]]
        succeeded(await http.delete(f"{path}/messages/{said['id']}"))
        await server.background.sweep()
        assert MARK in (await http.get(path + stream)).text
        (asked,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = {"tool_outputs": [{"tool_call_id": asked["id"], "output": "Rain."}]}
        await post(http, f"{path}/runs/{run['id']}/submit_tool_outputs", outputs)
        await reaches(http, run, "completed")
        await swept(server, clock)
        assert await server.database.read(events) == []
        assert await traces(place) == []


async def test_pages_of_runs_go_on_from_one_whose_thread_was_deleted(database_url: str) -> None:
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, with_worker=False) as server,
        server.http() as http,
    ):
        runs = [await make_run(http) for _ in range(3)]
        succeeded(await http.delete(f"/threads/{runs[1]['thread_id']}"))
        older = await get(http, "/runs", after=runs[1]["id"])
        assert [one["id"] for one in older["data"]] == [runs[0]["id"]]
