"""Requests with an `Idempotency-Key` while the database cannot be written."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from sqlalchemy import Connection, Engine, event

from tests.api.wire import answer, get
from tests.support.server import Running, running_server
from threadloom.api import recorded
from threadloom.testing import ScriptedModel, ScriptedModels

KEY = {"Idempotency-Key": "k"}


class Guarded:
    """A database that can be written, or cannot."""

    def __init__(self, engine: Engine) -> None:
        self.read_only = False
        self._sqlite = engine.dialect.name == "sqlite"
        event.listen(engine, "begin", self._on_begin)
        for end in ("commit", "rollback"):
            event.listen(engine, end, self._on_end)

    def _on_begin(self, connection: Connection) -> None:
        if self.read_only:
            connection.exec_driver_sql(
                "PRAGMA query_only = ON" if self._sqlite else "SET TRANSACTION READ ONLY"
            )

    def _on_end(self, connection: Connection) -> None:
        if self._sqlite:
            connection.exec_driver_sql("PRAGMA query_only = OFF")


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """One whose requests are soon taken over."""
    settings = {"runs": {"lease": 0.5}}
    async with running_server(
        database_url, ScriptedModels(model), settings=settings, with_worker=False
    ) as running:
        running.check.expected_statuses.add(503)
        yield running


async def test_a_request_that_cannot_be_taken_is_refused_like_others(
    server: Running, http: httpx2.AsyncClient
) -> None:
    database = Guarded(server.database.engine)
    database.read_only = True
    refused = await http.post("/threads", headers=KEY)
    plain = await http.post("/threads")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert answer(refused) == answer(plain)
    database.read_only = False
    done = await http.post("/threads", headers=KEY)
    assert (done.status_code, "idempotent-replayed" in done.headers) == (200, False)
    assert [one["id"] for one in (await get(http, "/threads"))["data"]] == [done.json()["id"]]


async def test_an_answer_that_cannot_be_kept_is_given_and_built_again(
    server: Running, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Guarded(server.database.engine)

    def committed(_: str) -> None:
        database.read_only = True

    monkeypatch.setattr(recorded, "point", committed)
    first = await http.post("/threads", headers=KEY)
    assert first.status_code == 200
    database.read_only = False
    second = await http.post("/threads", headers=KEY)
    assert answer(second) == answer(first)
    assert second.headers["idempotent-replayed"] == "true"
    assert len((await get(http, "/threads"))["data"]) == 1
