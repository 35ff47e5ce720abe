"""Many hands on one vector store at once: whoever comes too late is told so, and nobody waits for ever."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from tests.api.stores import chunks_and_strays, counts, make_files, make_store
from tests.api.wire import get, make_thread
from tests.support.server import Running, running_server
from threadloom.db.tx import Tx
from threadloom.retrieval.sweeping import sweep
from threadloom.testing import ScriptedModel, ScriptedModels
from threadloom.testing.parser import LineParser


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """A server that ingests at once."""
    async with running_server(
        database_url, ScriptedModels(model), parser=LineParser(), settings=FAST
    ) as running:
        yield running


FAST = {"file_search": {"ingestions": 8}}


async def statuses(*requests: Coroutine[Any, Any, httpx2.Response]) -> list[int]:
    return [answer.status_code for answer in await asyncio.gather(*requests)]


async def test_a_file_attached_many_times_at_once_is_there_once(
    http: httpx2.AsyncClient,
) -> None:
    ids = await make_files(http, 3)
    store = (await make_store(http))["id"]
    path = f"/vector_stores/{store}"
    told = await statuses(
        *(http.post(f"{path}/files", json={"file_id": ids[n % 3]}) for n in range(9)),
        *(http.post(f"{path}/file_batches", json={"file_ids": ids}) for _ in range(6)),
    )
    assert set(told) == {200}
    page = await get(http, f"{path}/files")
    assert sorted(file["id"] for file in page["data"]) == sorted(ids)


async def test_what_is_removed_while_it_is_ingested_leaves_nothing(
    server: Running, http: httpx2.AsyncClient
) -> None:
    ids = await make_files(http, 8)
    stores = [(await make_store(http, file_ids=ids))["id"] for _ in range(6)]
    told = await statuses(
        *(http.delete(f"/vector_stores/{store}") for store in stores[:3]),
        *(http.delete(f"/files/{file}") for file in ids[:4]),
        *(http.delete(f"/vector_stores/{store}/files/{ids[4]}") for store in stores),
        *(
            http.post(f"/vector_stores/{store}/files/{ids[5]}", json={"attributes": {"n": 1}})
            for store in stores
        ),
        *(http.post(f"/vector_stores/{store}/files", json={"file_id": ids[6]}) for store in stores),
        *(http.post(f"/vector_stores/{store}", json={"name": "n"}) for store in stores),
    )
    assert set(told) <= {200, 404}
    for store in stores[3:]:
        await drained(server, http, store)
        assert (await get(http, f"/vector_stores/{store}"))["file_counts"] == counts(completed=3)
    await sweep(server.database)
    assert await chunks_and_strays(server) == (9, 0)


class Holder:
    """Locks a thread as a message does, and goes on to a store when somebody waits for the thread."""

    def __init__(self) -> None:
        self.has_thread = threading.Event()

    def lock(self, tx: Tx, thread: str, store: str) -> None:
        tx.session.execute(LOCK_THREAD, {"id": thread})
        self.has_thread.set()
        deadline = time.monotonic() + 10
        while not tx.session.scalar(WAITING) and time.monotonic() < deadline:
            tx.session.scalar(PAUSE)
        assert tx.session.scalar(WAITING)
        tx.session.execute(LOCK_STORE, {"id": store})


LOCK_THREAD = text("SELECT seq FROM threads WHERE id = :id FOR NO KEY UPDATE")
LOCK_STORE = text("SELECT seq FROM vector_stores WHERE id = :id FOR NO KEY UPDATE NOWAIT")
WAITING = text(
    "SELECT count(*) FROM pg_locks "
    "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)
PAUSE = text("SELECT pg_sleep(0.01)")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_deleted_file_leaves_threads_before_it_leaves_stores(
    server: Running, http: httpx2.AsyncClient
) -> None:
    file = (await make_files(http, 1))[0]
    store = (await make_store(http, file_ids=[file]))["id"]
    await drained(server, http, store)
    seen = {"code_interpreter": {"file_ids": [file]}}
    thread = (await make_thread(http, tool_resources=seen))["id"]
    holder = Holder()
    held = asyncio.create_task(server.database.write(holder.lock, thread, store))
    await asyncio.to_thread(holder.has_thread.wait, 10)
    assert await statuses(http.delete(f"/files/{file}")) == [200]
    await held


async def drained(server: Running, http: httpx2.AsyncClient, store: str) -> None:
    """Wait until nothing in the store is in progress."""
    async with server.openai() as client:
        page = await get(http, f"/vector_stores/{store}/files")
        for file in page["data"]:
            await client.vector_stores.files.poll(file["id"], vector_store_id=store)
