"""A server that speaks `/v1/embeddings`, driven over HTTP."""

from collections.abc import AsyncIterator, Callable

import httpx2
import numpy as np
import pytest
import structlog

from threadloom.backoff import Backoff
from threadloom.config import Embeddings, Settings
from threadloom.errors import StartError
from threadloom.retrieval.embedded_embedder import EmbeddedEmbedder
from threadloom.retrieval.embedder import EmbeddingError
from threadloom.retrieval.embedders import open_embedder
from threadloom.retrieval.remote_embedder import RemoteEmbedder
from threadloom.testing import HashEmbedder
from threadloom.testing.upstream import Answer, Upstream, json_answer

Remote = Callable[..., RemoteEmbedder]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def remote(upstream: Upstream) -> AsyncIterator[Remote]:
    """Makes an embedder at the upstream; its settings may be overridden."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        def make(**overrides: object) -> RemoteEmbedder:
            fields = {"base_url": upstream.base_url, "api_key": "sk-secret"} | overrides
            settings = Embeddings.model_validate(fields)
            backoff = Backoff(first=0.001, longest=0.01, longest_asked=0.05)
            return RemoteEmbedder(client, settings, "text-embedding-3-small", backoff=backoff)

        yield make


def embedding(*numbers: float, index: int = 0) -> dict[str, object]:
    return {"object": "embedding", "index": index, "embedding": numbers}


async def test_the_request_names_the_model_and_asks_for_bytes(
    remote: Remote, upstream: Upstream
) -> None:
    await remote(dimensions=32).embed_query("Hello")
    assert upstream.requests == [
        {
            "model": "text-embedding-3-small",
            "input": ["Hello"],
            "encoding_format": "base64",
            "dimensions": 32,
        }
    ]
    assert upstream.headers[0]["authorization"] == "Bearer sk-secret"


async def test_passages_go_in_batches_and_each_gets_its_own_vector(
    remote: Remote, upstream: Upstream
) -> None:
    texts = ["red apples", "blue plums", "green pears", "black cherries", "white grapes"]
    windows = await remote(batch=2).embed_passages(texts)
    assert [request["input"] for request in upstream.requests] == [texts[:2], texts[2:4], texts[4:]]
    # The upstream answers in reverse: only `index` tells whose a vector is.
    expected = await HashEmbedder().embed_passages(texts)
    assert np.allclose(np.stack(windows), np.stack(expected))


async def test_vectors_have_unit_length(remote: Remote) -> None:
    assert np.isclose(np.linalg.norm(await remote().embed_query("three times as long")), 1)


async def test_numbers_instead_of_bytes_are_accepted(remote: Remote, upstream: Upstream) -> None:
    upstream.answers(json_answer({"data": [embedding(3, 4)]}))
    assert (await remote().embed_query("Hello")).tolist() == pytest.approx([0.6, 0.8])


async def test_nothing_is_asked_when_there_is_nothing_to_embed(
    remote: Remote, upstream: Upstream
) -> None:
    assert await remote().embed_passages([]) == []
    assert upstream.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_passing_faults_are_tried_again(
    remote: Remote, upstream: Upstream, status: int
) -> None:
    text = f"[[status:{status} times=2]]"
    await remote().embed_query(text)
    assert upstream.calls[text] == 3


async def test_a_lost_connection_is_tried_again(remote: Remote, upstream: Upstream) -> None:
    upstream.answers(Answer(chunks=(b"{", b"}"), drop_after=1))
    await remote().embed_query("Hello")
    assert len(upstream.requests) == 2


async def test_tries_come_to_an_end(remote: Remote, upstream: Upstream) -> None:
    text = "[[status:503 message=Our key sk-secret is known]]"
    with structlog.testing.capture_logs() as logs, pytest.raises(EmbeddingError) as caught:
        await remote().embed_query(text)
    assert str(caught.value) == "The embedding provider failed. Try again later."
    assert upstream.calls[text] == 3
    assert "sk-secret" not in str(logs)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "THREADLOOM_EMBEDDINGS__API_KEY"),
        (404, "THREADLOOM_EMBEDDINGS__MODEL"),
        (400, "use smaller chunks"),
    ],
)
async def test_lasting_faults_say_what_to_do_and_are_not_tried_again(
    remote: Remote, upstream: Upstream, status: int, sentence: str
) -> None:
    text = f"[[status:{status}]]"
    with pytest.raises(EmbeddingError, match=sentence):
        await remote().embed_passages([text])
    assert upstream.calls[text] == 1


async def test_a_provider_that_is_not_there_is_named_unreachable() -> None:
    settings = Embeddings(base_url="http://127.0.0.1:9/v1")
    async with httpx2.AsyncClient(trust_env=False) as client:
        embedder = RemoteEmbedder(client, settings, "m", backoff=Backoff(first=0.001))
        with pytest.raises(EmbeddingError, match="could not be reached"):
            await embedder.embed_query("Hello")


@pytest.mark.parametrize(
    "data",
    [
        [],
        [embedding(1.0, index=1)],
        [embedding(0.0, 0.0)],
        [{"index": 0, "embedding": "not base64!"}],
        [{"embedding": [1.0]}],
        "nonsense",
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error(
    remote: Remote, upstream: Upstream, data: object
) -> None:
    upstream.answers(json_answer({"data": data}))
    with pytest.raises(EmbeddingError, match="does not fit"):
        await remote().embed_query("Hello")


async def test_vectors_of_different_lengths_do_not_fit(remote: Remote, upstream: Upstream) -> None:
    upstream.answers(json_answer({"data": [embedding(1.0), embedding(1.0, 2.0, index=1)]}))
    with pytest.raises(EmbeddingError, match="does not fit"):
        await remote().embed_passages(["a", "b"])


async def test_a_provider_that_ignores_the_dimensions_is_noticed(
    remote: Remote, upstream: Upstream
) -> None:
    upstream.answers(json_answer({"data": [embedding(1.0, 2.0, 3.0)]}))
    with pytest.raises(EmbeddingError, match="answers with 3 dimensions"):
        await remote(dimensions=2).embed_query("Hello")


async def test_settings_choose_the_embedder() -> None:
    embedded = open_embedder(Settings())
    remote = open_embedder(
        Settings(embeddings=Embeddings(base_url="http://127.0.0.1:9/v1", model="m", weight=0.7))
    )
    assert isinstance(embedded, EmbeddedEmbedder)
    assert (remote.model, remote.weight_for("Hello")) == ("m", 0.7)
    await embedded.close()
    await remote.close()


def test_an_address_without_a_model_stops_the_start() -> None:
    settings = Settings(embeddings=Embeddings(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(StartError, match=r"embeddings\.model"):
        open_embedder(settings)
