"""What every index does alike: it finds what looking at every row would find."""

from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pytest

from tests.retrieval.index.brute import BruteIndex
from tests.retrieval.index.rows import (
    MODEL,
    FileData,
    Filled,
    clustered,
    embed_again,
    filled_store,
    unit,
)
from tests.runs.workers import opened
from threadloom.db.database import Database
from threadloom.retrieval.index import FileSeqs, Index, Scored
from threadloom.retrieval.index.faiss_index import FaissIndex

DIMENSIONS = 16
WORDS = ["apple", "pear", "plum", "quince", "cherry", "fig", "grape", "melon", "lime", "date"]


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def index(database: Database, tmp_path: Path) -> AsyncGenerator[Index]:
    one = FaissIndex(database, tmp_path / "index", 2**30)
    yield one
    await one.close()


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(7)


def some_files(
    chance: np.random.Generator, count: int, dimensions: int = DIMENSIONS
) -> list[FileData]:
    """Files of one to four chunks of one to five windows."""
    return [
        FileData(
            [
                clustered(chance, int(chance.integers(1, 6)), dimensions)
                for _ in range(int(chance.integers(1, 5)))
            ],
            [" ".join(chance.choice(WORDS, 6)) for _ in range(4)],
        )
        for _ in range(count)
    ]


def same(found: Scored, expected: Scored) -> None:
    """Equal scores, and equal chunks wherever no other has the same score."""
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    gaps = np.abs(expected.scores[:, None] - expected.scores[None, :]) < 2e-5
    alone = gaps.sum(axis=1) == 1
    alone[-1:] = False  # an equal one may have been cut off
    np.testing.assert_array_equal(found.chunks[alone], expected.chunks[alone])


async def assert_like_brute_force(
    index: Index,
    store: Filled,
    query: np.ndarray,
    *,
    limit: int = 10,
    files: FileSeqs | None = None,
) -> None:
    now, brute = await store.state(), BruteIndex(store.database)
    text = "a quince, a fig and some apples"
    same(
        await index.nearest(now, MODEL, query, limit=limit, files=files),
        await brute.nearest(now, MODEL, query, limit=limit, files=files),
    )
    same(
        await index.matching(now, text, limit=limit, files=files),
        await brute.matching(now, text, limit=limit, files=files),
    )


async def test_it_finds_the_same_as_brute_force(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 100))
    for query in clustered(chance, 5, DIMENSIONS):
        await assert_like_brute_force(index, store, query)


async def test_a_chunk_is_found_once_by_its_best_window(index: Index, database: Database) -> None:
    query = unit(np.eye(4)[0])
    many = np.repeat(query[None], 40, axis=0)
    other = unit(np.array([[0.6, 0.8, 0, 0], [0.8, 0.6, 0, 0]]))
    store = await filled_store(database, FileData([many, other]))
    found = await index.nearest(await store.state(), MODEL, query, limit=2, files=None)
    np.testing.assert_allclose(found.scores, [1.0, 0.8], atol=1e-3)
    assert len(set(found.chunks.tolist())) == 2


async def test_only_chosen_files_are_searched_and_as_many_as_wanted_come_back(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    seqs = await store.add(*some_files(chance, 100))
    chosen = np.array(sorted(chance.choice(seqs, 12, replace=False)), np.int64)
    for query in clustered(chance, 5, DIMENSIONS):
        await assert_like_brute_force(index, store, query, files=chosen)
        await assert_like_brute_force(index, store, query, files=np.empty(0, np.int64))


async def test_added_and_removed_files_are_felt_at_once(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    query = clustered(chance, 1, DIMENSIONS)[0]
    held: list[int] = []
    for _ in range(12):
        held += await store.add(*some_files(chance, int(chance.integers(1, 20))))
        gone = [seq for seq in held if chance.random() < 0.3]
        held = [seq for seq in held if seq not in gone]
        await store.remove(*gone)
        await assert_like_brute_force(index, store, query)


async def test_a_file_that_was_embedded_again_is_found_by_its_new_vectors_only(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    first, second = await store.add(*some_files(chance, 2))
    query = clustered(chance, 1, DIMENSIONS)[0]
    await assert_like_brute_force(index, store, query)
    again = [clustered(chance, 2, DIMENSIONS)]
    await database.write(embed_again, store.id, first, again, MODEL)
    await assert_like_brute_force(index, store, query)
    await database.write(embed_again, store.id, second, [clustered(chance, 2, 8)], "other")
    await assert_like_brute_force(index, store, query)
    found = await index.nearest(await store.state(), "other", query[:8], limit=9, files=None)
    assert found.chunks.size == 1


async def test_nothing_is_found_in_an_empty_store_or_one_that_is_gone(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    await assert_like_brute_force(index, store, clustered(chance, 1, DIMENSIONS)[0])
    gone = Filled(database, "vs_gone")
    await assert_like_brute_force(index, gone, clustered(chance, 1, DIMENSIONS)[0])
