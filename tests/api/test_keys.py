"""Keys: kept as hashes, dead soon after they were revoked, never in a log."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from sqlalchemy import inspect, select, text

from tests.support.server import Running, running_server
from threadloom.api.keys import ADMIN, TRUSTED_FOR, Caller, Keys, ensure_project, revoke_key
from threadloom.db.database import Database
from threadloom.db.rows import ApiKeyRow
from threadloom.db.tx import Tx
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds


@pytest.fixture
async def other(still: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    async with still.http(await still.new_key("other")) as client:
        yield client


def last_key_id(tx: Tx) -> str:
    return tx.session.scalars(select(ApiKeyRow.id).order_by(ApiKeyRow.seq.desc())).first() or ""


def everything(tx: Tx) -> list[Any]:
    """All rows of all tables, as the database gives them."""
    tables = inspect(tx.session.connection()).get_table_names()
    return [row for table in tables for row in tx.session.execute(text(f"SELECT * FROM {table}"))]


async def test_a_revoked_key_dies_within_a_second(
    still: Running, other: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    assert (await other.get("/assistants")).status_code == 200
    assert await still.database.write(revoke_key, await still.database.read(last_key_id))
    clock.advance(TRUSTED_FOR)
    assert (await other.get("/assistants")).json()["error"]["code"] == "invalid_api_key"


async def test_a_key_that_was_never_used_dies_at_once(
    still: Running, other: httpx2.AsyncClient
) -> None:
    await still.database.write(revoke_key, await still.database.read(last_key_id))
    assert (await other.get("/assistants")).status_code == 401


async def test_a_clock_that_goes_back_does_not_keep_a_key_alive(
    still: Running, other: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    assert (await other.get("/assistants")).status_code == 200
    await still.database.write(revoke_key, await still.database.read(last_key_id))
    clock.advance(-3600)
    assert (await other.get("/assistants")).status_code == 401


async def test_a_revoked_key_leaves_other_keys_alone(
    still: Running, raw: httpx2.AsyncClient, other: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    await still.database.write(revoke_key, await still.database.read(last_key_id))
    clock.advance(TRUSTED_FOR)
    assert (await raw.get("/assistants")).status_code == 200


async def test_revoking_an_unknown_key_says_so(still: Running) -> None:
    assert not await still.database.write(revoke_key, "key_unknown")


async def test_only_hashes_of_keys_are_stored(still: Running, raw: httpx2.AsyncClient) -> None:
    await raw.get("/assistants")
    stored = str(await still.database.read(everything))
    assert still.key not in stored
    assert still.key[3:20] not in stored


async def test_keys_are_not_logged(
    database_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    model = ScriptedModel()
    model.says("Hello")
    async with running_server(database_url, ScriptedModels(model)) as server, server.http() as raw:
        wrong = {"Authorization": f"Bearer {server.key}x"}
        assert (await raw.get("/assistants")).status_code == 200
        assert (await raw.get("/assistants", headers=wrong)).status_code == 401
        assert (await raw.post("/assistants", content=b"{")).status_code == 400
    written = capsys.readouterr()
    assert server.key not in written.out + written.err + caplog.text


async def test_the_admin_key_belongs_to_the_default_project(still: Running) -> None:
    project = await still.database.write(ensure_project)
    keys = Keys(still.database, admin_key="headless", default_project=project)
    assert await keys.caller("headless") == Caller(project, ADMIN)
    assert await keys.caller(still.key) == Caller(project, await still.database.read(last_key_id))
    assert await keys.caller("headles") is None


async def test_a_revoked_key_dies_within_a_second_in_every_process(
    still: Running, database_url: str, clock: FrozenClock
) -> None:
    key = await still.new_key("other")
    other = Database(database_url, clock=clock, ids=SequentialIds())
    try:
        processes = [
            Keys(database, admin_key=None, default_project="proj_none")
            for database in (still.database, other)
        ]
        assert all([await keys.caller(key) for keys in processes])
        await still.database.write(revoke_key, await still.database.read(last_key_id))
        clock.advance(TRUSTED_FOR)
        assert not any([await keys.caller(key) for keys in processes])
    finally:
        await other.close()


async def test_a_key_is_looked_up_once_for_all_who_wait(still: Running) -> None:
    keys = Keys(still.database, admin_key=None, default_project="proj_none")
    asked = await asyncio.gather(*(keys.caller(still.key) for _ in range(20)))
    assert len({id(caller) for caller in asked}) == 1
