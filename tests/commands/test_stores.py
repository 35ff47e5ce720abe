"""`threadloom stores`."""

import re

import httpx2
from openai import AsyncOpenAI

from tests.api.stores import make_store
from tests.api.wire import get, make_file
from tests.commands.running import Commands


async def test_a_store_is_listed_shown_and_searched(
    threadloom: Commands, http: httpx2.AsyncClient, client: AsyncOpenAI
) -> None:
    store = (await make_store(http, name="Bees"))["id"]
    for name, text in (("dance.txt", b"Bees dance.\nIn eights."), ("ants.txt", b"Ants march.")):
        file = (await make_file(http, text, name))["id"]
        await client.vector_stores.files.create_and_poll(file, vector_store_id=store)
    sent = await get(http, f"/vector_stores/{store}")
    files = (await get(http, f"/vector_stores/{store}/files"))["data"]
    shown = await threadloom.json("stores", "show", store)
    assert shown | {"last_active_at": 0} == sent | {"last_active_at": 0, "files": files}
    assert files[0]["id"] in await threadloom.run("stores", "show", store)
    (_, line) = (await threadloom.run("stores", "list")).splitlines()
    assert line.split()[:4] == [store, "Bees", "completed", "2"]
    assert [one["id"] for one in (await threadloom.json("stores", "list"))["data"]] == [store]
    question = ("stores", "search", store, "How do bees dance?")
    first, *passage = (await threadloom.run(*question, "--limit", "1")).splitlines()
    assert re.fullmatch(rf"[01]\.\d{{3}}  dance\.txt  {files[1]['id']}", first)
    assert passage == ["    Bees dance.", "    In eights."]
    nothing = await threadloom.json(*question, "--threshold", "1")
    assert (nothing["search_query"], nothing["data"]) == (["How do bees dance?"], [])


async def test_unknown_stores_are_told(alone: Commands) -> None:
    missing = "No vector store found with id 'vs_1'."
    assert (await alone.refused("stores", "show", "vs_1")).startswith("No vector store found")
    assert (await alone.refused("stores", "search", "vs_1", "bees")) == missing


async def test_both_names_of_reindex_do_the_same(alone: Commands) -> None:
    assert (await alone.run("stores", "reindex")).endswith("Embedded 0 files again.")
    assert (await alone.run("reindex")).endswith("Embedded 0 files again.")
