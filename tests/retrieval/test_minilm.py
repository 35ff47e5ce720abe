"""The embedder that the package carries."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from threadloom.retrieval.embedded_embedder import PORTION, EmbeddedEmbedder, portions
from threadloom.retrieval.embedder import EmbeddingError
from threadloom.retrieval.minilm import DIMENSIONS, WINDOW, MiniLM

REFERENCE = Path(__file__).with_name("minilm_reference.npz")
DATA = files("threadloom") / "data" / "minilm"
LONG = "Every sentence of this passage says the same as the one before. " * 60


@pytest.fixture(scope="module")
def network() -> MiniLM:
    return MiniLM()


@pytest.fixture
async def embedder() -> AsyncIterator[EmbeddedEmbedder]:
    made = EmbeddedEmbedder()
    yield made
    await made.close()


def likeness(network: MiniLM, first: str, second: str) -> float:
    return float(network.query(first) @ network.query(second))


def test_the_files_are_the_ones_that_were_built() -> None:
    notice = (DATA / "NOTICE").read_text()
    for name in ("model.onnx", "tokenizer.json"):
        assert f"{name}  {hashlib.sha256((DATA / name).read_bytes()).hexdigest()}" in notice


def test_eight_bits_answer_almost_as_the_published_weights_do(network: MiniLM) -> None:
    reference = np.load(REFERENCE)
    ours = np.stack([network.query(str(sentence)) for sentence in reference["sentences"]])
    assert (ours * reference["vectors"]).sum(axis=1).min() > 0.985


def test_sentences_of_one_meaning_are_near_each_other(network: MiniLM) -> None:
    question = "How long is the guarantee?"
    assert likeness(network, question, "The warranty lasts three years.") > 0.5
    assert likeness(network, question, "Bread is baked from flour and water.") < 0.2


def test_a_long_passage_has_a_vector_for_every_part(network: MiniLM) -> None:
    windows = network.windows(LONG)
    assert len(windows) == -(-sum(len(window) - 2 for window in windows) // WINDOW) > 2
    assert max(map(len, windows)) - min(map(len, windows)) <= 1
    assert network.passage(LONG).shape == (len(windows), DIMENSIONS)


def test_what_stands_at_the_end_of_a_long_passage_is_found(network: MiniLM) -> None:
    windows = network.passage(LONG + "The ferry to Naxos leaves at nine.")
    question = network.query("When does the boat go to Naxos?")
    assert (windows @ question).argmax() == len(windows) - 1


@pytest.mark.parametrize("text", ["", " ", "\x00", "日本語", "🙂" * 2000, "a" * 30_000])
def test_any_text_has_vectors_of_unit_length(network: MiniLM, text: str) -> None:
    assert np.allclose(np.linalg.norm(network.passage(text), axis=1), 1)
    assert np.isclose(np.linalg.norm(network.query(text)), 1)


def test_portions_keep_the_order_and_never_split_a_text() -> None:
    texts = ["a" * 10, "b" * PORTION, "", "c" * (2 * PORTION), *["d" * 1000] * 40]
    found = [*portions(texts)]
    assert [text for portion in found for text in portion] == texts
    assert all(len(portion) == 1 or sum(map(len, portion)) <= PORTION for portion in found)


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("Wie groß ist es?", 0.6),
        ("複製文件", 0),
        ("копия cp", 0.6 * 2 / 7),
        ("42?", 0.6),
        ("", 0.6),
    ],
)
async def test_what_it_cannot_read_is_left_to_words(
    embedder: EmbeddedEmbedder, query: str, weight: float
) -> None:
    assert embedder.weight_for(query) == pytest.approx(weight)


async def test_the_process_and_the_server_give_the_same_vectors(
    embedder: EmbeddedEmbedder, network: MiniLM
) -> None:
    texts = ["One.", LONG, "Three words more."]
    windows = await embedder.embed_passages(texts)
    assert all(
        np.allclose(ours, network.passage(text), atol=1e-6)
        for ours, text in zip(windows, texts, strict=True)
    )
    assert np.allclose(await embedder.embed_query("One."), windows[0][0], atol=1e-6)


async def test_a_small_file_does_not_wait_for_a_large_one(embedder: EmbeddedEmbedder) -> None:
    ended: list[str] = []

    async def embed(name: str, texts: list[str]) -> None:
        await embedder.embed_passages(texts)
        ended.append(name)

    async with asyncio.TaskGroup() as files_:
        files_.create_task(embed("large", ["x" * PORTION] * 4))
        files_.create_task(embed("small", ["Only one."]))
    assert ended == ["small", "large"]


async def test_whoever_leaves_does_not_disturb_the_others(
    embedder: EmbeddedEmbedder, network: MiniLM
) -> None:
    left = asyncio.create_task(embedder.embed_passages([LONG]))
    stayed = asyncio.create_task(embedder.embed_passages(["Still here."]))
    await embedder.embed_query("The first is being embedded by now.")
    left.cancel()
    assert np.allclose(await stayed, network.passage("Still here."), atol=1e-6)


async def test_a_process_that_died_is_replaced(embedder: EmbeddedEmbedder) -> None:
    before = await embedder.embed_passages(["Hello."])
    os.kill(process_id(embedder), signal.SIGKILL)
    assert np.array_equal(await embedder.embed_passages(["Hello."]), before)


async def test_what_a_dying_process_was_asked_is_asked_again(embedder: EmbeddedEmbedder) -> None:
    texts = [LONG, "Hello.", LONG[:3_000], LONG * 8]
    before = [await embedder.embed_passages([text]) for text in texts]
    asked = [asyncio.create_task(embedder.embed_passages([text])) for text in texts]
    await asyncio.sleep(0.01)
    os.kill(process_id(embedder), signal.SIGKILL)
    for expected, task in zip(before, asked, strict=True):
        assert np.array_equal(await task, expected)


async def test_a_process_that_dies_again_and_again_is_an_error() -> None:
    embedder = EmbeddedEmbedder(command=("false",))
    with pytest.raises(EmbeddingError, match="ended unexpectedly"):
        await embedder.embed_passages(["Hello."])
    await embedder.close()


async def test_a_process_without_work_ends_and_comes_back() -> None:
    embedder = EmbeddedEmbedder(idle=0.01)
    before = await embedder.embed_passages(["Hello."])
    assert await exit_code(embedder) == 0
    assert np.array_equal(await embedder.embed_passages(["Hello."]), before)
    await embedder.close()


async def test_closing_ends_the_process(embedder: EmbeddedEmbedder) -> None:
    await embedder.embed_passages(["Hello."])
    pid = process_id(embedder)
    await embedder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def process_id(embedder: EmbeddedEmbedder) -> int:
    child = embedder._process._child  # pyright: ignore[reportPrivateUsage]
    assert child is not None
    return child.process.pid


async def exit_code(embedder: EmbeddedEmbedder) -> int:
    child = embedder._process._child  # pyright: ignore[reportPrivateUsage]
    assert child is not None
    return await child.process.wait()
