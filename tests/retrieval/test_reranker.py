"""What search relies on, whatever the reranker; and a server that speaks `/rerank`, driven over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.backoff import Backoff
from threadloom.config import RerankerSettings, Settings
from threadloom.retrieval.reranker import (
    RemoteReranker,
    Reranker,
    RerankError,
    logistic,
    open_reranker,
)
from threadloom.testing import WordReranker
from threadloom.testing.upstream import Answer, Upstream, json_answer

Remote = Callable[..., RemoteReranker]

TEXTS = ("Bananas grow on herbs.", "A saw cuts wood.", "Apples grow on old trees.")
QUERY = "old apples grow"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def remote(upstream: Upstream) -> AsyncIterator[Remote]:
    """Makes a reranker at the upstream; its settings may be overridden."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        def make(**overrides: object) -> RemoteReranker:
            fields = {"base_url": upstream.base_url, "api_key": "sk-secret"} | overrides
            settings = RerankerSettings.model_validate(fields)
            backoff = Backoff(first=0.001, longest=0.01, longest_asked=0.05)
            return RemoteReranker(client, settings, backoff=backoff)

        yield make


def results(*scores: tuple[int, float]) -> Answer:
    return json_answer(
        {"results": [{"index": index, "relevance_score": score} for index, score in scores]}
    )


@pytest.fixture(params=["remote", "fake"])
def reranker(request: pytest.FixtureRequest, remote: Remote) -> Reranker:
    return remote(candidates=7) if request.param == "remote" else WordReranker(7)


async def test_scores_are_told_by_place(reranker: Reranker) -> None:
    scores = await reranker.rerank(QUERY, TEXTS)
    assert scores == pytest.approx({0: 1 / 3, 1: 0.0, 2: 1.0})


async def test_a_text_s_score_is_its_own(reranker: Reranker) -> None:
    together = await reranker.rerank(QUERY, TEXTS)
    alone = await reranker.rerank(QUERY, [TEXTS[0]])
    assert alone[0] == together[0]


async def test_a_fault_is_told_in_a_sentence(reranker: Reranker) -> None:
    if isinstance(reranker, WordReranker):
        reranker.fails("The reranker failed. Try again later.")
    with pytest.raises(RerankError, match="The reranker failed"):
        await reranker.rerank("[[status:503]]", TEXTS)


async def test_the_number_of_candidates_is_told(reranker: Reranker) -> None:
    assert reranker.candidates == 7


async def test_the_request_is_that_of_jina_and_cohere(remote: Remote, upstream: Upstream) -> None:
    await remote(model="bge-reranker-v2-m3").rerank(QUERY, TEXTS)
    assert upstream.requests == [
        {"model": "bge-reranker-v2-m3", "query": QUERY, "documents": [*TEXTS], "top_n": 3}
    ]
    assert upstream.headers[0]["authorization"] == "Bearer sk-secret"


async def test_a_server_of_one_model_needs_no_name(remote: Remote, upstream: Upstream) -> None:
    await remote(api_key=None, base_url=f"{upstream.base_url}/").rerank(QUERY, TEXTS)
    assert "model" not in upstream.requests[0]
    assert "authorization" not in upstream.headers[0]


async def test_scores_without_the_word_relevance_count_too(
    remote: Remote, upstream: Upstream
) -> None:
    upstream.answers(json_answer({"results": [{"index": 1, "score": 0.5}]}))
    assert await remote().rerank(QUERY, TEXTS) == {1: 0.5}


async def test_what_rounding_puts_outside_is_put_back(remote: Remote, upstream: Upstream) -> None:
    upstream.answers(results((0, 1.0002), (1, -0.0002), (2, 0.5)))
    assert await remote().rerank(QUERY, TEXTS) == {0: 1.0, 1: 0.0, 2: 0.5}


async def test_logits_become_shares_from_the_first_that_shows(
    remote: Remote, upstream: Upstream
) -> None:
    upstream.answers(results((0, 7.5), (1, -11.0), (2, 0.0)), results((0, 0.0)))
    reranker = remote()
    first = await reranker.rerank(QUERY, TEXTS)
    assert first == pytest.approx({0: 0.999447, 1: 0.0000167, 2: 0.5}, abs=1e-6)
    assert await reranker.rerank(QUERY, TEXTS) == {0: 0.5}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_logit_becomes_a_share(logit: float) -> None:
    assert 0 <= logistic(logit) <= 1
    assert logistic(logit) <= logistic(logit + 1)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_passing_faults_are_tried_again(
    remote: Remote, upstream: Upstream, status: int
) -> None:
    query = f"[[status:{status} times=2]]"
    await remote().rerank(query, TEXTS)
    assert upstream.calls[query] == 3


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "THREADLOOM_RERANKER__API_KEY"),
        (404, "THREADLOOM_RERANKER__BASE_URL"),
        (422, "use smaller chunks"),
    ],
)
async def test_lasting_faults_say_what_to_do_and_are_not_tried_again(
    remote: Remote, upstream: Upstream, status: int, sentence: str
) -> None:
    query = f"[[status:{status} message=Our key sk-secret is known]]"
    with pytest.raises(RerankError, match=sentence) as caught:
        await remote().rerank(query, TEXTS)
    assert upstream.calls[query] == 1
    assert "sk-secret" not in str(caught.value)


async def test_a_reranker_that_is_not_there_is_named_unreachable(remote: Remote) -> None:
    with pytest.raises(RerankError, match="could not be reached"):
        await remote(base_url="http://127.0.0.1:9/v1").rerank(QUERY, TEXTS)


async def test_all_tries_together_have_one_time(remote: Remote, upstream: Upstream) -> None:
    reranker = remote(timeout="200ms")
    async with asyncio.timeout(20):
        with pytest.raises(RerankError, match="in time"):
            await reranker.rerank("[[delay:60]]", TEXTS)
    assert upstream.calls["[[delay:60]]"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"results": []}',
        b'{"results": [{"index": 0}]}',
        b'{"results": [{"index": 0, "score": null}]}',
        b'{"results": [{"index": 0, "score": NaN}]}',
        b'{"results": [{"index": 3, "score": 0.5}]}',
        b'{"results": [{"index": -1, "score": 0.5}]}',
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error(
    remote: Remote, upstream: Upstream, answer: bytes
) -> None:
    upstream.answers(Answer(chunks=(answer,)))
    with pytest.raises(RerankError, match="does not fit"):
        await remote().rerank(QUERY, TEXTS)


async def test_settings_choose_the_reranker(upstream: Upstream) -> None:
    settings = RerankerSettings(base_url=upstream.base_url, candidates=9)
    async with (
        open_reranker(Settings()) as none,
        open_reranker(Settings(reranker=settings)) as one,
    ):
        assert none is None
        assert one is not None
        assert one.candidates == 9
        assert await one.rerank("saw", ["A saw"]) == {0: 1.0}
