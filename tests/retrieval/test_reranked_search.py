"""Searches of a store on the wire, at a server whose fake reranker goes by words and looks at three passages."""

from collections.abc import AsyncGenerator

import httpx2
import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from tests.api.wire import Json, post
from tests.support.server import Running, running_server
from threadloom.retrieval.index import Scored
from threadloom.retrieval.search import put_first
from threadloom.testing import ScriptedModel, ScriptedModels, WordReranker
from threadloom.testing.parser import LineParser


@pytest.fixture
def reranker() -> WordReranker:
    return WordReranker(candidates=3)


@pytest.fixture
async def server(
    database_url: str, model: ScriptedModel, reranker: WordReranker
) -> AsyncGenerator[Running]:
    async with running_server(
        database_url, ScriptedModels(model), parser=LineParser(), reranker=reranker
    ) as running:
        yield running


@pytest.fixture
async def store(client: AsyncOpenAI) -> str:
    """A store with two files of lines, each a passage."""
    store = (await client.vector_stores.create()).id
    for name, text in {
        "fruit.txt": "Apples grow on old trees.\nBananas grow on herbs.\nPears are picked.",
        "tools.txt": "A hammer drives nails.\nA saw cuts wood from old trees.",
    }.items():
        file = await client.files.create(file=(name, text.encode()), purpose="assistants")
        await client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store, attributes={"name": name}
        )
    return store


async def test_the_reranker_gives_the_scores_and_the_order(
    http: httpx2.AsyncClient, store: str
) -> None:
    found = await search(http, store, query="apples grow trees")
    shown = {text: score for text, score in found[:3] if score}
    assert shown == pytest.approx(
        {
            "Apples grow on old trees.": 1.0,
            "Bananas grow on herbs.": 1 / 3,
            "A saw cuts wood from old trees.": 1 / 3,
        }
    )
    assert len(found) == 5
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)


async def test_it_reads_the_best_candidates_only(
    http: httpx2.AsyncClient, store: str, reranker: WordReranker
) -> None:
    fused = await search(http, store, query="old trees", ranking_options={"ranker": "none"})
    assert reranker.requests == []
    await search(http, store, query="old trees")
    assert reranker.requests == [("old trees", tuple(text for text, _ in fused[:3]))]


async def test_the_threshold_is_for_the_reranker_s_scores(
    http: httpx2.AsyncClient, store: str
) -> None:
    above = await search(
        http, store, query="apples grow trees", ranking_options={"score_threshold": 0.9}
    )
    assert above == [("Apples grow on old trees.", 1.0)]


async def test_each_query_is_reranked_on_its_own(
    http: httpx2.AsyncClient, store: str, reranker: WordReranker
) -> None:
    found = await search(http, store, query=["hammer nails", "saw wood"])
    assert {query for query, _ in reranker.requests} == {"hammer nails", "saw wood"}
    assert set(found[:2]) == {
        ("A hammer drives nails.", 1.0),
        ("A saw cuts wood from old trees.", 1.0),
    }


async def test_it_sees_nothing_that_a_filter_holds_back(
    http: httpx2.AsyncClient, store: str, reranker: WordReranker
) -> None:
    tools = {"type": "eq", "key": "name", "value": "tools.txt"}
    await search(http, store, query="old trees", filters=tools)
    [(_, texts)] = reranker.requests
    assert set(texts) == {"A hammer drives nails.", "A saw cuts wood from old trees."}
    none = {"type": "eq", "key": "name", "value": "none"}
    assert await search(http, store, query="old trees", filters=none) == []
    assert len(reranker.requests) == 1


async def test_a_search_goes_on_without_it(
    http: httpx2.AsyncClient, store: str, reranker: WordReranker
) -> None:
    queries = ["old trees", "hammer", "herbs"]
    fused = await search(http, store, query=queries, ranking_options={"ranker": "none"})
    reranker.fails("It is broken.", "It is broken.")
    with structlog.testing.capture_logs() as logs:
        assert await search(http, store, query=queries) == fused
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [(entry["event"], entry["reason"]) for entry in warnings] == [
        ("search goes on without its reranker", "It is broken.")
    ]


SCORES = st.floats(0, 1, width=32)


@given(st.dictionaries(st.integers(0, 40), SCORES), st.dictionaries(st.integers(0, 40), SCORES))
def test_what_was_not_reranked_stands_below_as_it_stood(
    fused: dict[int, float], new: dict[int, float]
) -> None:
    order = sorted(fused, key=lambda chunk: -fused[chunk])
    found = Scored(np.array(order, np.int64), np.array([fused[c] for c in order], np.float32))
    scores = {chunk: score for chunk, score in new.items() if chunk in fused}
    placed = put_first(found, scores)
    chunks = placed.chunks.tolist()
    assert sorted(chunks) == sorted(order)
    assert set(chunks[: len(scores)]) == set(scores)
    assert chunks[len(scores) :] == [chunk for chunk in order if chunk not in scores]
    assert (np.diff(placed.scores) <= 0).all()
    by_chunk = dict(zip(chunks, placed.scores.tolist(), strict=True))
    assert {chunk: by_chunk[chunk] for chunk in scores} == scores


async def search(http: httpx2.AsyncClient, store: str, **body: object) -> list[tuple[str, float]]:
    """The passages and their scores."""
    page: Json = await post(http, f"/vector_stores/{store}/search", body)
    return [(result["content"][0]["text"], result["score"]) for result in page["data"]]
