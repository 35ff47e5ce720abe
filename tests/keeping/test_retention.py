"""What is old goes: by itself as the settings say, or when an operator asks."""

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import func, select

from tests.api.wire import (
    make_file,
    make_message,
    make_thread,
    post,
    run_to_end,
)
from tests.keeping.places import Place, Places, migrated
from tests.keeping.world import listed
from tests.support.process import COMMAND, environment
from tests.support.server import Running, running_server
from threadloom.db.rows import EventRow, UsageRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.keeping import aging
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels

DAY = 86_400
DATABASES = ["sqlite", "postgresql"]


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@asynccontextmanager
async def serving(
    place: Place,
    clock: FrozenClock | None = None,
    model: ScriptedModel | None = None,
    retention: Mapping[str, Any] | None = None,
) -> AsyncGenerator[tuple[Running, httpx2.AsyncClient]]:
    async with (
        running_server(
            place.url,
            ScriptedModels(model or ScriptedModel()),
            settings=place.settings | {"retention": retention or {}},
            clock=clock,
        ) as server,
        server.http() as http,
    ):
        yield server, http


async def ids(http: httpx2.AsyncClient, path: str) -> list[str]:
    return [one["id"] for one in await listed(http, path)]


@pytest.mark.parametrize("database", DATABASES)
async def test_threads_go_when_nobody_used_them_for_long(
    places: Places, database: str, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aging, "LOOKED_AT", 2)
    place = migrated(places.new(database))
    async with serving(place, clock, retention={"threads": "30d"}) as (server, http):
        old = [(await make_thread(http, "Hi"))["id"] for _ in range(5)]
        clock.advance(29 * DAY)
        await make_message(http, old[1])
        young = await make_thread(http)
        await server.background.sweep()
        assert len(await ids(http, "/threads")) == 6
        clock.advance(2 * DAY)
        await server.background.sweep()
        assert await ids(http, "/threads") == [old[1], young["id"]]
        clock.advance(30 * DAY)
        await server.background.sweep()
        assert await ids(http, "/threads") == []


@pytest.mark.parametrize("database", DATABASES)
async def test_files_and_stores_go_when_they_are_old(
    places: Places, database: str, clock: FrozenClock
) -> None:
    place = migrated(places.new(database))
    retention = {"files": "10d", "vector_stores": "5d"}
    async with serving(place, clock, retention=retention) as (server, http):
        old = await make_file(http, b"old")
        await post(http, "/vector_stores", {})
        used = await post(http, "/vector_stores", {})
        clock.advance(4 * DAY)
        young = await make_file(http, b"young")
        await post(http, f"/vector_stores/{used['id']}", {"name": "used"})
        clock.advance(2 * DAY)
        await server.background.sweep()
        assert await ids(http, "/vector_stores") == [used["id"]]
        assert await ids(http, "/files") == [old["id"], young["id"]]
        clock.advance(5 * DAY)
        await server.background.sweep()
        assert await ids(http, "/files") == [young["id"]]


async def test_without_settings_nothing_goes(places: Places, clock: FrozenClock) -> None:
    async with serving(migrated(places.new("sqlite")), clock) as (server, http):
        await make_thread(http, "Hi")
        await make_file(http)
        clock.advance(4_000 * DAY)
        await server.background.sweep()
        assert len(await ids(http, "/threads")) == len(await ids(http, "/files")) == 1


async def purge(place: Place, *arguments: str) -> dict[str, int]:
    return orjson.loads(await place.command("purge", *arguments, "--json"))["counts"]


@pytest.mark.parametrize("database", DATABASES)
async def test_an_operator_purges_what_is_old(places: Places, database: str) -> None:
    place = migrated(places.new(database))
    model = ScriptedModel()
    model.says("Hello.")
    clock = FrozenClock()
    async with serving(place, clock, model) as (server, http):
        await run_to_end(http)
        await make_file(http, b"text")
        everything = ("threads", "files", "vector_stores", "events", "deliveries", "usage")
        asked = [part for what in everything for part in ("--what", what)]
        would = await purge(place, "--older-than", "1d", *asked, "--dry-run")
        assert would["threads"] == would["files"] == would["events"] == would["usage"] == 1
        with pytest.raises(StartError, match="say --yes"):
            await purge(place, "--older-than", "1d", *asked)
        assert await purge(place, "--older-than", "1d", *asked, "--dry-run") == would
        gone = await purge(place, "--older-than", "1d", "--what", "events", "--yes")
        assert gone == {"events": 1}
        assert await server.database.read(count_of, EventRow) == 0
        assert len(await ids(http, "/runs")) == 1
        await purge(place, "--older-than", "1d", *asked, "--yes")
        for kind in ("threads", "runs", "files"):
            assert await ids(http, f"/{kind}") == []
        assert await server.database.read(count_of, UsageRow) == 0
        assert not [one for one in (place.folder / "files").rglob("*") if one.is_file()]


def count_of(tx: Tx, kind: Any) -> int:
    return tx.session.scalar(select(func.count()).select_from(kind)) or 0


async def typed(place: Place, answer: bytes, *arguments: str) -> tuple[int | None, bytes]:
    """The exit code of a command at a terminal on which somebody types, and what it asked."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer)
        variables = environment(**place.environment)
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, *arguments), stdin=theirs, stdout=PIPE, stderr=PIPE, env=variables
        )
        _, asked = await process.communicate()
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, asked


async def test_nothing_is_purged_before_somebody_said_yes(places: Places) -> None:
    place = migrated(places.new("sqlite"))
    async with serving(place, FrozenClock()) as (_, http):
        thread = await make_thread(http)
        asked = ("purge", "--older-than", "1d", "--what", "threads", "--what", "files")
        code, said = await typed(place, b"n\n", *asked)
        assert (code, said.splitlines()[0]) == (1, b"Delete 1 threads, 0 files? [y/N]:Aborted.")
        assert await ids(http, "/threads") == [thread["id"]]
        code, _ = await typed(place, b"y\n", *asked)
        assert code == 0
        assert await ids(http, "/threads") == []


async def test_a_purge_keeps_to_its_project_and_its_age(places: Places) -> None:
    place = migrated(places.new("sqlite"))
    async with serving(place, FrozenClock()) as (server, http):
        await make_thread(http)
        async with server.http(await server.new_key("other")) as other:
            await make_thread(other)
            asked = ("--what", "threads", "--yes")
            assert await purge(place, "--older-than", "90000d", *asked) == {"threads": 0}
            in_project = ("--project", "other", "--older-than", "1d")
            assert await purge(place, *in_project, *asked) == {"threads": 1}
            assert await ids(other, "/threads") == []
        assert len(await ids(http, "/threads")) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--older-than", "old", "--what", "files"), "'old' is no age"),
        (("--older-than", "1.2.3d", "--what", "files"), "'1.2.3d' is no age"),
        (("--older-than", "1d", "--what", "people"), "'people' cannot be purged"),
        (("--older-than", "1d", "--what", "files", "--project", "x"), "There is no project 'x'"),
    ],
)
async def test_what_cannot_be_purged_is_told_in_a_sentence(
    places: Places, arguments: tuple[str, ...], problem: str
) -> None:
    place = places.new("sqlite")
    await place.command("db", "upgrade")
    with pytest.raises(StartError, match=problem):
        await place.command("purge", *arguments, "--yes")
