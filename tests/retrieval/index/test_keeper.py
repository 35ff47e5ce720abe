"""Snapshots: how they follow the rows, and what they cost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from sqlalchemy.orm import Session

from tests.retrieval.index.checks import (
    DIMENSIONS,
    SettledIndex,
    assert_like_brute_force,
    some_files,
)
from tests.retrieval.index.conftest import MEMORY, PACKED
from tests.retrieval.index.rows import MODEL, clustered, embed_again, filled_store, raise_generation
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.contents import Chunks, read_chunks
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.keeper import Keeper
from threadloom.retrieval.index.segments import File, Segment
from threadloom.retrieval.index.snapshots import MEASURED

AnyTx = TypeVar("AnyTx", bound=Tx)
R = TypeVar("R")

pytestmark = pytest.mark.parametrize("kind", ["flat on sqlite"], indirect=True)


class WatchedDatabase(Database):
    """Counts what is read, and may do something before one of the reads."""

    def __init__(self, url: str) -> None:
        super().__init__(url, clock=SystemClock(), ids=RandomIds())
        self.reads = 0
        self.before: dict[int, Callable[[], Awaitable[object]]] = {}

    async def run_read(self, begin: Callable[[Session], AnyTx], action: Callable[[AnyTx], R]) -> R:
        self.reads += 1
        if interrupt := self.before.pop(self.reads, None):
            await interrupt()
        return await super().run_read(begin, action)


async def test_many_searches_at_once_do_the_work_once_and_later_ones_read_nothing(
    database_url: str, tmp_path: Path, database: Database, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 10))
    now, query = await store.state(), clustered(chance, 1, DIMENSIONS)[0]
    watched = WatchedDatabase(database_url)
    index = FaissIndex(watched, tmp_path / "index", MEMORY)

    async def search() -> None:
        await index.nearest(now, MODEL, query, limit=5, files=None)
        await index.matching(now, "fig", limit=5, files=None)

    await asyncio.gather(*(search() for _ in range(20)))
    assert watched.reads == 2  # the store's files and their chunks
    await search()
    assert watched.reads == 2
    await index.close()
    await watched.close()


async def test_only_chunks_of_new_files_are_read(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    read: list[int] = []

    def counted(tx: Tx, files: Sequence[File]) -> Chunks:
        read.extend(file.seq for file in files)
        return read_chunks(tx, files)

    store = await filled_store(database)
    keeper = Keeper(database, CacheFiles(tmp_path), MEMORY, read=counted, policy=MEASURED)
    first = await store.add(*some_files(chance, 10))
    await keeper.snapshot(await store.state())
    second = await store.add(*some_files(chance, 3))
    await store.remove(first[0])
    await keeper.snapshot(await store.state())
    assert read == [*first, *second]
    await keeper.close()


async def test_a_file_that_is_embedded_again_while_it_is_read_is_read_again(
    database_url: str, database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    first, *_ = await store.add(*some_files(chance, 5))
    query = clustered(chance, 1, DIMENSIONS)[0]
    watched = WatchedDatabase(database_url)
    again = [clustered(chance, 2, DIMENSIONS)]
    watched.before[2] = lambda: database.write(embed_again, store.id, first, again, MODEL)
    index = FaissIndex(watched, tmp_path / "index", MEMORY)
    await index.nearest(await store.state(), MODEL, query, limit=5, files=None)
    assert watched.reads > 2
    await assert_like_brute_force(index, store, query)
    await index.close()
    await watched.close()


async def test_a_file_that_never_rests_does_not_keep_others_from_being_found(
    database_url: str, database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    first, *_ = await store.add(*some_files(chance, 5))
    watched = WatchedDatabase(database_url)
    again = [clustered(chance, 2, DIMENSIONS)]
    for number in range(1, 20):
        watched.before[number] = lambda: database.write(embed_again, store.id, first, again, MODEL)
    index = FaissIndex(watched, tmp_path / "index", MEMORY)
    found = await index.nearest(await store.state(), MODEL, again[0][0], limit=50, files=None)
    assert found.chunks.size
    await index.close()
    await watched.close()


async def test_memory_is_bounded_and_what_was_forgotten_is_found_again(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    stores = [await filled_store(database, *some_files(chance, 30)) for _ in range(5)]
    query = clustered(chance, 1, DIMENSIONS)[0]
    index = FaissIndex(database, tmp_path / "index", 100_000)
    for store in stores * 2:
        await assert_like_brute_force(index, store, query)
        assert index.keeper.bytes <= 100_000
    await index.close()


async def test_a_store_larger_than_the_memory_is_searched_all_the_same(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 30))
    index = FaissIndex(database, tmp_path / "index", 1)
    await assert_like_brute_force(index, store, clustered(chance, 1, DIMENSIONS)[0])
    await index.close()


class FailingFiles(CacheFiles):
    """Does what nobody has thought of."""

    def save(self, store_id: str, segment: Segment) -> Segment:
        raise MemoryError


async def test_a_fault_in_the_background_costs_time_and_nothing_else(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 30))
    index = SettledIndex(database, tmp_path, MEMORY, PACKED)
    index.keeper = Keeper(database, FailingFiles(tmp_path), MEMORY, read=read_chunks, policy=PACKED)
    for _ in range(3):
        await assert_like_brute_force(index, store, clustered(chance, 1, DIMENSIONS)[0])
        await database.write(raise_generation, store.id)
    await index.close()


async def test_segments_stay_few_and_nearly_all_that_they_hold_is_alive(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    index = SettledIndex(database, tmp_path, MEMORY, replace(PACKED, shrink=10))
    held: list[int] = []
    for _ in range(60):
        held += await store.add(*some_files(chance, 3))
        if chance.random() < 0.5:
            await store.remove(held.pop(int(chance.integers(0, len(held)))))
        snapshot = await index.keeper.settled(await store.state())
        assert len(snapshot.parts) <= 3
        assert all(part.weight >= 0.8 * part.segment.chunks.size for part in snapshot.parts)
    await index.close()
