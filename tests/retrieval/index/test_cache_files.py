"""Files of indexes: whatever happened to one, an answer is right."""

import asyncio
import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.retrieval.index.brute import BruteIndex
from tests.retrieval.index.checks import (
    DIMENSIONS,
    TEXT,
    SettledIndex,
    assert_like_brute_force,
    some_files,
)
from tests.retrieval.index.conftest import MEMORY, PACKED
from tests.retrieval.index.rows import (
    MODEL,
    Filled,
    Windows,
    clustered,
    embed_again,
    filled_store,
)
from tests.runs.workers import opened
from threadloom.db.database import Database
from threadloom.retrieval.index import StoreState
from threadloom.retrieval.index.cache_files import MAGIC, PREFIX, CacheFiles, padding
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.preparing import next_task, prepare

pytestmark = pytest.mark.parametrize("kind", ["packed on sqlite"], indirect=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
async def store(database: Database, directory: Path, chance: np.random.Generator) -> Filled:
    """A store that has a file."""
    store = await filled_store(database, *some_files(chance, 60))
    await saved(store, directory)
    return store


async def saved(store: Filled, directory: Path) -> Path:
    """Search once, so that there is a file."""
    index = SettledIndex(store.database, directory, MEMORY, PACKED)
    await index.nearest(
        await store.state(), MODEL, np.ones(DIMENSIONS, np.float32), limit=1, files=None
    )
    await index.close()
    return CacheFiles(directory).path(store.id)


async def assert_right_after_a_start(store: Filled, directory: Path, queries: Windows) -> None:
    index = SettledIndex(store.database, directory, MEMORY, PACKED)
    for query in queries:
        await assert_like_brute_force(index, store, query)
    await index.close()


async def test_a_start_reads_no_chunks_that_a_file_has(
    store: Filled, directory: Path, chance: np.random.Generator
) -> None:
    [segment] = CacheFiles(directory).load(store.id)
    assert segment.scan
    assert segment.settled
    assert not segment.vectors.flags.owndata
    await assert_right_after_a_start(store, directory, clustered(chance, 3, DIMENSIONS))


async def test_any_flipped_byte_is_noticed(
    store: Filled, directory: Path, chance: np.random.Generator
) -> None:
    path = CacheFiles(directory).path(store.id)
    content = path.read_bytes()
    queries = clustered(chance, 1, DIMENSIONS)
    for at in [0, len(MAGIC), len(content) - 1, *chance.integers(0, len(content), 100).tolist()]:
        flipped = bytearray(content)
        flipped[at] ^= int(chance.integers(1, 256))
        path.write_bytes(flipped)
        await assert_right_after_a_start(store, directory, queries)


async def test_any_truncation_is_noticed(
    store: Filled, directory: Path, chance: np.random.Generator
) -> None:
    path = CacheFiles(directory).path(store.id)
    content = path.read_bytes()
    queries = clustered(chance, 1, DIMENSIONS)
    for size in [0, 1, len(MAGIC), 40, *np.linspace(64, len(content) - 1, 60, dtype=int).tolist()]:
        path.write_bytes(content[:size])
        await assert_right_after_a_start(store, directory, queries)


async def test_a_damaged_file_is_written_anew(store: Filled, directory: Path) -> None:
    path = CacheFiles(directory).path(store.id)
    path.write_bytes(path.read_bytes()[:-100])
    assert not CacheFiles(directory).load(store.id)
    await saved(store, directory)
    assert CacheFiles(directory).load(store.id)


async def test_a_file_from_before_changes_is_brought_up_to_date(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    path = CacheFiles(directory).path(store.id)
    old = path.read_bytes()
    queries = clustered(chance, 3, DIMENSIONS)
    [segment] = CacheFiles(directory).load(store.id)
    first, second, *_ = segment.file_seqs.tolist()
    await store.remove(first)
    await embed_again_there(database, store, second, chance, DIMENSIONS)
    await store.add(*some_files(chance, 5))
    await assert_right_after_a_start(store, directory, queries)
    path.write_bytes(old)
    await assert_right_after_a_start(store, directory, queries)


async def embed_again_there(
    database: Database, store: Filled, seq: int, chance: np.random.Generator, dimensions: int
) -> None:
    again = [clustered(chance, 2, dimensions)]
    await database.write(embed_again, store.id, seq, again, MODEL)


async def test_a_file_with_vectors_of_other_dimensions_is_not_used(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    [segment] = CacheFiles(directory).load(store.id)
    for seq in segment.file_seqs.tolist():
        await embed_again_there(database, store, seq, chance, 8)
    await assert_right_after_a_start(store, directory, clustered(chance, 2, DIMENSIONS))
    await assert_right_after_a_start(store, directory, clustered(chance, 2, 8))


async def test_the_file_of_another_store_is_not_used(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    other = await filled_store(database, *some_files(chance, 60))
    files = CacheFiles(directory)
    files.path(store.id).rename(files.path(other.id))
    await assert_right_after_a_start(other, directory, clustered(chance, 2, DIMENSIONS))


async def test_a_file_of_another_version_of_faiss_is_not_used(
    store: Filled, directory: Path
) -> None:
    path = CacheFiles(directory).path(store.id)
    content = path.read_bytes()
    start = len(MAGIC) + PREFIX.size
    length, _ = PREFIX.unpack(content[len(MAGIC) : start])
    told = orjson.loads(content[start : start + length]) | {"faiss": "0.0.1"}
    about = orjson.dumps(told)
    front = MAGIC + PREFIX.pack(len(about), zlib.crc32(about)) + about
    body = content[start + length + padding(start + length) :]
    path.write_bytes(front + bytes(padding(len(front))) + body)
    assert not CacheFiles(directory).load(store.id)


async def test_a_directory_that_takes_no_files_only_costs_time(
    store: Filled, tmp_path: Path, chance: np.random.Generator
) -> None:
    (tmp_path / "occupied").write_text("not a directory")
    await assert_right_after_a_start(store, tmp_path / "occupied", clustered(chance, 2, DIMENSIONS))


async def test_files_of_stores_that_are_gone_are_removed(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    gone = directory / "vs_gone.index"
    gone.write_bytes(b"something")
    left, fresh = directory / "vs_1.left.unfinished", directory / "vs_1.fresh.unfinished"
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    await assert_right_after_a_start(store, directory, clustered(chance, 1, DIMENSIONS))
    assert not gone.exists()
    assert not left.exists()
    assert fresh.exists()
    assert CacheFiles(directory).path(store.id).exists()


async def test_a_file_that_another_process_finishes_meanwhile_fails_no_search(
    store: Filled, directory: Path, chance: np.random.Generator
) -> None:
    # As a name that was renamed after the folder was read: it is listed, and nothing is there.
    (directory / "vs_1.finished.unfinished").symlink_to("nowhere")
    await assert_right_after_a_start(store, directory, clustered(chance, 1, DIMENSIONS))


async def test_two_indexes_on_one_directory_follow_the_rows(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    both = [SettledIndex(database, directory, MEMORY, PACKED) for _ in range(2)]
    for _ in range(6):
        await store.add(*some_files(chance, int(chance.integers(1, 30))))
        query = clustered(chance, 1, DIMENSIONS)[0]
        await asyncio.gather(*(assert_like_brute_force(one, store, query) for one in both))
    for one in both:
        await one.close()


def search_elsewhere(
    url: str, directory: Path, store: StoreState, query: Windows
) -> tuple[list[int], list[int]]:
    """What another process finds."""

    async def search() -> tuple[list[int], list[int]]:
        async with opened(url) as database:
            index = SettledIndex(database, directory, MEMORY, PACKED)
            near = await index.nearest(store, MODEL, query, limit=10, files=None)
            words = await index.matching(store, TEXT, limit=10, files=None)
            await index.close()
            return near.chunks.tolist(), words.chunks.tolist()

    return asyncio.run(search())


async def test_processes_share_a_directory(
    store: Filled,
    directory: Path,
    database: Database,
    database_url: str,
    chance: np.random.Generator,
) -> None:
    query, ours = clustered(chance, 1, DIMENSIONS)[0], BruteIndex(database)
    here = SettledIndex(database, directory, MEMORY, PACKED)
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for _ in range(3):
            await store.add(*some_files(chance, 20))
            now = await store.state()
            asked = (database_url, directory, now, query)
            there = [loop.run_in_executor(processes, search_elsewhere, *asked) for _ in range(2)]
            await assert_like_brute_force(here, store, query)
            near = await ours.nearest(now, MODEL, query, limit=10, files=None)
            words = await ours.matching(now, TEXT, limit=10, files=None)
            expected = (near.chunks.tolist(), words.chunks.tolist())
            assert await asyncio.gather(*there) == [expected, expected]
    await here.close()


async def test_what_another_process_prepared_is_not_prepared_again(
    store: Filled, directory: Path, database: Database, chance: np.random.Generator
) -> None:
    files = CacheFiles(directory)
    before = files.path(store.id).stat().st_mtime_ns
    index = FaissIndex(database, directory / "elsewhere", MEMORY)
    snapshot = await index.keeper.snapshot(await store.state())
    await index.close()
    task = next_task(store.id, snapshot, PACKED)
    assert task
    theirs = prepare(task, files, PACKED)
    assert not theirs.vectors.flags.owndata
    assert files.path(store.id).stat().st_mtime_ns == before
    await store.add(*some_files(chance, 1))
    await assert_right_after_a_start(store, directory, clustered(chance, 1, DIMENSIONS))
