"""What every index does alike: it finds what looking at every row would find."""

import asyncio

import numpy as np

from tests.retrieval.index.checks import DIMENSIONS, assert_like_brute_force, some_files
from tests.retrieval.index.rows import (
    MODEL,
    FileData,
    Filled,
    clustered,
    embed_again,
    filled_store,
    set_status,
    unit,
)
from threadloom.db.database import Database
from threadloom.retrieval.index import Index


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


async def test_only_completed_files_are_searched(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    first, *_ = await store.add(*some_files(chance, 5))
    query = clustered(chance, 1, DIMENSIONS)[0]
    for status in ("completed", "in_progress", "failed", "cancelled", "completed"):
        await database.write(set_status, store.id, first, status)
        await assert_like_brute_force(index, store, query)


async def test_searches_at_once_find_the_same(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    stores = [await filled_store(database, *some_files(chance, 20)) for _ in range(3)]
    queries = clustered(chance, 4, DIMENSIONS)
    await asyncio.gather(
        *(assert_like_brute_force(index, store, query) for store in stores for query in queries)
    )


async def test_words_that_nobody_wrote_find_nothing(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 5))
    for text in ("zeppelin", "", "?!"):
        found = await index.matching(await store.state(), text, limit=5, files=None)
        assert not found.chunks.size


async def test_a_file_that_is_being_embedded_anew_is_found_by_its_words(
    index: Index, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    first, *_ = await store.add(*some_files(chance, 5))
    query = clustered(chance, 1, DIMENSIONS)[0]
    await assert_like_brute_force(index, store, query)
    mixed = [clustered(chance, 2, DIMENSIONS), clustered(chance, 1, 8)]
    await database.write(embed_again, store.id, first, mixed, None)
    await assert_like_brute_force(index, store, query)
    found = await index.matching(await store.state(), "again", limit=5, files=None)
    assert found.chunks.size == 2
    await store.add(*some_files(chance, 5))
    await assert_like_brute_force(index, store, query)
