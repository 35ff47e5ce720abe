"""What is swept: vector stores that expired, and chunks that nothing finds any more."""

from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.api.stores import (
    attach,
    chunks_and_strays,
    counts,
    generation,
    ingest,
    make_files,
    make_store,
)
from tests.api.wire import get, make_file
from tests.support.server import Running, running_server
from threadloom.retrieval.reindex import outdated_files
from threadloom.retrieval.sweeping import CHUNKS, FILES, STORES, sweep
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels

DAY = 86_400
A_DAY = {"anchor": "last_active_at", "days": 1}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def still(
    database_url: str, model: ScriptedModel, clock: FrozenClock
) -> AsyncGenerator[Running]:
    """A server where time stands still and nobody sweeps by himself."""
    async with running_server(
        database_url, ScriptedModels(model), clock=clock, with_worker=False
    ) as running:
        yield running


@pytest.fixture
async def raw(still: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    async with still.http() as raw:
        yield raw


async def test_chunks_go_some_time_after_their_files(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    one, two, three = await make_files(raw, 3)
    store = (await make_store(raw, file_ids=[one, two, three]))["id"]
    other = (await make_store(raw, file_ids=[one]))["id"]
    await ingest(still, store, one, *"abc")
    await ingest(still, store, two, *"d" * (CHUNKS + 1))
    await ingest(still, other, one, *"abcd")
    await raw.delete(f"/vector_stores/{store}/files/{one}")
    await sweep(still.database)
    assert await chunks_and_strays(still) == (CHUNKS + 1 + 4, 0)
    await raw.delete(f"/files/{two}")
    await raw.delete(f"/vector_stores/{store}")
    assert await chunks_and_strays(still) == (CHUNKS + 1 + 4, 2)
    await sweep(still.database)
    assert await chunks_and_strays(still) == (4, 0)


async def test_many_files_are_swept_together(still: Running, raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    for _ in range(FILES + 1):
        store = (await make_store(raw, file_ids=[file]))["id"]
        await raw.delete(f"/vector_stores/{store}")
    assert await chunks_and_strays(still) == (0, FILES + 1)
    await sweep(still.database)
    assert await chunks_and_strays(still) == (0, 0)


async def test_an_expired_store_is_emptied_but_its_files_stay_listed(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    done, waiting = await make_files(raw, 2)
    made = await make_store(raw, file_ids=[done, waiting], expires_after=A_DAY)
    store, path = made["id"], f"/vector_stores/{made['id']}"
    await ingest(still, store, done, "Some", "text")
    before = await generation(still, store)
    clock.advance(DAY - 1)
    await sweep(still.database)
    assert await chunks_and_strays(still) == (2, 0)
    clock.advance(1)
    await sweep(still.database)
    assert await chunks_and_strays(still) == (0, 0)
    assert await generation(still, store) != before
    over = await get(raw, path)
    assert (over["status"], over["usage_bytes"]) == ("expired", 0)
    assert over["file_counts"] == counts(completed=1, cancelled=1)
    page = await get(raw, f"{path}/files", order="asc")
    assert [file["id"] for file in page["data"]] == [done, waiting]
    assert (await get(raw, f"{path}/files/{done}/content"))["data"] == []


async def test_the_files_of_an_expired_store_are_not_embedded_again(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    file = (await make_file(raw))["id"]
    for lifetime in ({"expires_after": A_DAY}, {}):
        store = (await make_store(raw, file_ids=[file], **lifetime))["id"]
        await ingest(still, store, file, "Text")
    assert len(await still.database.read(outdated_files, "new")) == 2
    clock.advance(DAY)
    await sweep(still.database)
    assert len(await still.database.read(outdated_files, "new")) == 1


async def test_a_store_in_use_is_not_swept(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    file = (await make_file(raw))["id"]
    stores = [(await make_store(raw, expires_after=A_DAY))["id"] for _ in range(STORES + 1)]
    clock.advance(DAY - 1)
    await attach(raw, stores[0], file)
    await ingest(still, stores[0], file, "Text")
    clock.advance(DAY - 1)
    await sweep(still.database)
    assert await chunks_and_strays(still) == (1, 0)
    assert (await get(raw, f"/vector_stores/{stores[0]}"))["status"] == "completed"
    assert (await get(raw, f"/vector_stores/{stores[1]}"))["status"] == "expired"
