"""Searches of a vector store on the wire, from the upload to the passage; the SDKs' own helpers on the way."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.api.stores import make_store
from tests.api.wire import Json, answer, get, make_file, post, refusal
from tests.support.server import Running, running_server
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels
from threadloom.testing.parser import LineParser

DAY = 86_400
FRUIT = b"Apples grow on trees.\nBananas grow on herbs.\nPears are picked in autumn."
TOOLS = b"A hammer drives nails.\nA saw cuts wood from trees."


@pytest.fixture
async def server(
    database_url: str, model: ScriptedModel, clock: FrozenClock
) -> AsyncGenerator[Running]:
    """A server that takes each line of a document for a chunk."""
    async with running_server(
        database_url, ScriptedModels(model), parser=LineParser(), clock=clock
    ) as running:
        yield running


@pytest.fixture
async def store(client: AsyncOpenAI) -> str:
    """A store with two files."""
    store = (await client.vector_stores.create(name="Things")).id
    kinds = {"fruit.txt": (FRUIT, "food", 2024), "tools.txt": (TOOLS, "craft", 2020)}
    for name, (text, kind, year) in kinds.items():
        file = await client.files.create(file=(name, text), purpose="assistants")
        ready = await client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store, attributes={"kind": kind, "year": year}
        )
        assert ready.status == "completed"
    return store


async def search(http: httpx2.AsyncClient, store: str, **body: object) -> Json:
    return await post(http, f"/vector_stores/{store}/search", body)


def texts(page: Json) -> list[str]:
    return [result["content"][0]["text"] for result in page["data"]]


async def test_a_search_gives_passages_with_their_files(
    http: httpx2.AsyncClient, store: str
) -> None:
    page = await search(http, store, query="Bananas grow on herbs.")
    first = page["data"][0]
    assert first["filename"] == "fruit.txt"
    assert first["attributes"] == {"kind": "food", "year": 2024}
    assert first["content"] == [{"type": "text", "text": "Bananas grow on herbs."}]
    assert 0 < first["score"] <= 1
    assert (await get(http, f"/files/{first['file_id']}"))["filename"] == "fruit.txt"
    scores = [result["score"] for result in page["data"]]
    assert scores == sorted(scores, reverse=True)
    del page["data"]
    assert page == {
        "object": "vector_store.search_results.page",
        "search_query": ["Bananas grow on herbs."],
        "has_more": False,
        "next_page": None,
    }


async def test_several_queries_are_one_search(http: httpx2.AsyncClient, store: str) -> None:
    queries = ["Apples grow on trees.", "A hammer drives nails."]
    page = await search(http, store, query=queries, max_num_results=2)
    assert page["search_query"] == queries
    assert set(texts(page)) == set(queries)


async def test_as_many_results_come_as_are_asked_for(http: httpx2.AsyncClient, store: str) -> None:
    assert len((await search(http, store, query="trees", max_num_results=1))["data"]) == 1
    nulls = {"max_num_results": None, "filters": None, "ranking_options": None}
    assert len((await search(http, store, query="trees", **nulls))["data"]) == 5


async def test_filters_choose_the_files(http: httpx2.AsyncClient, store: str) -> None:
    craft: Json = {"type": "eq", "key": "kind", "value": "craft"}
    old: Json = {"type": "lt", "key": "year", "value": 2000}
    found = await search(http, store, query="trees", filters=craft)
    assert set(texts(found)) == set(TOOLS.decode().splitlines())
    both: Json = {"type": "and", "filters": [craft, old]}
    assert (await search(http, store, query="trees", filters=both))["data"] == []
    either: Json = {"type": "or", "filters": [old, craft]}
    assert len((await search(http, store, query="trees", filters=either))["data"]) == 2


async def test_changed_attributes_are_filtered_by_at_once(
    http: httpx2.AsyncClient, store: str
) -> None:
    food: Json = {"type": "eq", "key": "kind", "value": "food"}
    found = await search(http, store, query="trees", filters=food)
    file = found["data"][0]["file_id"]
    await post(http, f"/vector_stores/{store}/files/{file}", {"attributes": {"kind": "other"}})
    assert (await search(http, store, query="trees", filters=food))["data"] == []


async def test_results_below_the_threshold_are_left_out(
    http: httpx2.AsyncClient, store: str
) -> None:
    query = "Apples grow on trees."
    best = (await search(http, store, query=query))["data"][0]["score"]
    for ranker in ("auto", "none", "default-2024-11-15", None):
        ranking = {"ranker": ranker, "score_threshold": best}
        page = await search(http, store, query=query, ranking_options=ranking)
        assert texts(page) == [query]


async def test_the_weights_of_both_halves_are_honoured(
    http: httpx2.AsyncClient, store: str
) -> None:
    words = {"hybrid_search": {"embedding_weight": 0, "text_weight": 2}}
    page = await search(http, store, query="hammer zebra", ranking_options=words)
    first, *others = page["data"]
    assert first["content"][0]["text"] == "A hammer drives nails."
    assert {result["score"] for result in others} == {0}


async def test_what_is_removed_is_found_no_more(http: httpx2.AsyncClient, store: str) -> None:
    query = "A hammer drives nails."
    file = (await search(http, store, query=query))["data"][0]["file_id"]
    await http.delete(f"/vector_stores/{store}/files/{file}")
    assert query not in texts(await search(http, store, query=query))
    await http.delete(f"/vector_stores/{store}")
    told = answer(await http.post(f"/vector_stores/{store}/search", json={"query": query}))
    assert told == refusal(404, f"No vector store found with id '{store}'.")


async def test_an_expired_file_is_found_no_more(
    http: httpx2.AsyncClient, store: str, client: AsyncOpenAI, clock: FrozenClock
) -> None:
    plums = await client.files.create(
        file=("plums.txt", b"Plums grow on trees."),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    await client.vector_stores.files.create_and_poll(plums.id, vector_store_id=store)
    passages = texts(await search(http, store, query="trees"))
    assert "Plums grow on trees." in passages
    clock.advance(3600)
    found = texts(await search(http, store, query="trees"))
    assert sorted(found) == sorted(set(passages) - {"Plums grow on trees."})


async def test_an_empty_store_has_nothing_to_find(http: httpx2.AsyncClient) -> None:
    empty = (await make_store(http))["id"]
    assert (await search(http, empty, query="x", rewrite_query=True))["data"] == []


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "query", "missing_required_parameter"),
        ({"query": None}, "query", "invalid_type"),
        ({"query": ""}, "query", "empty_string"),
        ({"query": []}, "query", "empty_array"),
        ({"query": [1]}, "query[0]", "invalid_type"),
        ({"query": "x", "max_num_results": 0}, "max_num_results", "integer_below_min_value"),
        ({"query": "x", "max_num_results": 51}, "max_num_results", "integer_above_max_value"),
        (
            {"query": "x", "ranking_options": {"ranker": "best"}},
            "ranking_options.ranker",
            "invalid_value",
        ),
        (
            {"query": "x", "ranking_options": {"score_threshold": 1.5}},
            "ranking_options.score_threshold",
            "decimal_above_max_value",
        ),
        ({"query": "x", "filters": {"type": "near"}}, "filters.type", "invalid_value"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    raw: httpx2.AsyncClient, body: Json, param: str, code: str
) -> None:
    store = (await make_store(raw))["id"]
    refused = await raw.post(f"/vector_stores/{store}/search", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code), error


async def test_a_search_puts_off_the_expiry(raw: httpx2.AsyncClient, clock: FrozenClock) -> None:
    days = {"anchor": "last_active_at", "days": 1}
    made = await make_store(raw, expires_after=days)
    path = f"/vector_stores/{made['id']}"
    clock.advance(59)
    await search(raw, made["id"], query="x")
    assert await get(raw, path) == made
    clock.advance(1)
    await search(raw, made["id"], query="x")
    later = {name: made[name] + 60 for name in ("last_active_at", "expires_at")}
    assert await get(raw, path) == made | later


async def test_an_expired_store_is_not_searched(
    raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    store = (await make_store(raw, expires_after={"anchor": "last_active_at", "days": 1}))["id"]
    clock.advance(DAY)
    told = answer(await raw.post(f"/vector_stores/{store}/search", json={"query": "x"}))
    assert told == refusal(400, f"Vector store '{store}' has expired.")


async def test_the_helpers_of_the_sdk_upload_attach_and_wait(
    client: AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    store = (await client.vector_stores.create()).id
    one = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("one.txt", b"One apple.")
    )
    assert one.status == "completed"
    batch = await client.vector_stores.file_batches.upload_and_poll(
        store, files=[("two.md", b"Two apples."), ("bad.txt", b"!broken")]
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == (
        "completed",
        1,
        1,
    )
    failed = await client.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store, filter="failed"
    )
    assert [file.last_error and file.last_error.code for file in failed.data] == ["invalid_file"]
    found = [result async for result in client.vector_stores.search(store, query="apples")]
    assert {result.filename for result in found} == {"one.txt", "two.md"}
    made = await make_file(http)
    listed = [file.id async for file in client.vector_stores.files.list(store, limit=1)]
    assert made["id"] not in listed
    assert len(listed) == 3
