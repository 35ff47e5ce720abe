"""What a search of a vector store costs beside the bare FAISS scan of the same vectors, and what its index takes.

    python -m benchmarks.search [--sizes 10000 100000] [--rounds 100]

Vectors have 384 dimensions and lie in clusters, texts have 150 words each. FAISS is asked for 20, our index for as many
as a search asks it for. A million takes about ten minutes and 8 GB.
"""

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import faiss
import numpy as np
import uvloop
from numpy.typing import NDArray
from sqlalchemy import insert

from benchmarks.figures import Figure, table
from threadloom.api.keys import ensure_project
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.migrate import upgrade
from threadloom.db.rows import ChunkRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.retrieval.index import StoreState
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.vectors import typed
from threadloom.retrieval.search import CANDIDATES
from threadloom.retrieval.terms import pack_terms
from threadloom.types.vector_stores import StaticChunking

DIMENSIONS, OF_FILE, WORDS, VOCABULARY = 384, 100, 150, 20_000
MODEL, WANTED = "benchmark", 20
MEMORY = 8 * 1024**3
MS, MIB = 1e3, 2**20
Vectors = NDArray[np.float32]
Search = Callable[[int], Awaitable[object]]


def some_vectors(chance: np.random.Generator, count: int) -> Vectors:
    """Around a centre for each fifty of them."""
    centres = chance.standard_normal((count // 50, DIMENSIONS), np.float32)
    vectors = chance.standard_normal((count, DIMENSIONS), np.float32)
    vectors *= 0.7
    vectors += centres[chance.integers(0, len(centres), count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def some_texts(chance: np.random.Generator, count: int) -> Iterator[str]:
    """Words as often as words are."""
    often = 1 / np.arange(1, VOCABULARY + 1)
    shares = np.cumsum(often / often.sum())
    for _ in range(count):
        yield " ".join(f"w{word}" for word in np.searchsorted(shares, chance.random(WORDS)))


def add_store(tx: Tx) -> str:
    store = VectorStoreRow(
        id=tx.ids.new("vs_"),
        created_at=tx.now,
        project_id=ensure_project(tx),
        last_active_at=tx.now,
        metadata_={},
    )
    tx.session.add(store)
    return store.id


def add_file(tx: Tx, store_id: str, vectors: Vectors, texts: Sequence[str]) -> None:
    row = VectorStoreFileRow(
        id=tx.ids.new("file-"),
        created_at=tx.now,
        project_id=ensure_project(tx),
        vector_store_id=store_id,
        file_id=tx.ids.new("file-"),
        status="completed",
        usage_bytes=2 * vectors.size,
        attributes={},
        chunking_strategy=StaticChunking(),
        embedding_model=MODEL,
        dimensions=DIMENSIONS,
    )
    tx.session.add(row)
    tx.session.flush()
    stored = vectors.astype("<f2")
    chunks = [
        {
            "store_file_seq": row.seq,
            "position": position,
            "text": text,
            "start": 0,
            "end": len(text),
            "vectors": stored[position].tobytes(),
            "terms": pack_terms(text),
        }
        for position, text in enumerate(texts)
    ]
    tx.session.connection().execute(insert(ChunkRow), chunks)


@dataclass(frozen=True)
class Cost:
    """Of one of many calls: the seconds until its answer, and the processor seconds it took."""

    wall: float
    cpu: float

    def figures(self, name: str, wall: str = "p50") -> list[Figure]:
        return [
            Figure(f"{name}, {wall}", self.wall * MS, "ms"),
            Figure(f"{name}, CPU", self.cpu * MS, "ms"),
        ]


async def cost(search: Search, rounds: int) -> Cost:
    for number in range(3):
        await search(number)
    walls: list[float] = []
    began = time.process_time()
    for number in range(rounds):
        before = time.perf_counter()
        await search(number)
        walls.append(time.perf_counter() - before)
    return Cost(median(walls), (time.process_time() - began) / rounds)


async def once(work: Awaitable[object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    await work
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def resident() -> float:
    """MiB of memory of this process, that which is mapped from files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


async def measured(folder: Path, size: int, rounds: int) -> list[Figure]:
    database = Database(f"sqlite:///{folder}/{size}.db", clock=SystemClock(), ids=RandomIds())
    upgrade(database.engine)
    chance = np.random.default_rng(size)
    vectors = some_vectors(chance, size)
    store_id = await database.write(add_store)
    for at in range(0, size, OF_FILE):
        texts = list(some_texts(chance, OF_FILE))
        await database.write(add_file, store_id, vectors[at : at + OF_FILE], texts)
    near = vectors[chance.integers(0, size, rounds)]
    queries = near + chance.standard_normal(near.shape, np.float32) * np.float32(0.02)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    name = f"{size:,} chunks"
    figures = await bare(name, vectors, queries)
    del vectors
    index = FaissIndex(database, folder / "index", MEMORY)
    store = StoreState(store_id, 0)
    figures += await built(f"{name}, from rows", index, store, queries)
    figures += await searched(name, index, store, queries, files=size // OF_FILE // 100)
    await index.close()
    index = FaissIndex(database, folder / "index", MEMORY)
    figures += await built(f"{name}, after a restart", index, store, queries)
    await index.close()
    await database.close()
    return figures


async def bare(name: str, vectors: Vectors, queries: Vectors) -> list[Figure]:
    """On one thread, as ours."""
    faiss.omp_set_num_threads(1)
    index = typed(faiss.IndexFlatIP(DIMENSIONS))
    index.add(vectors)

    async def search(number: int) -> object:
        return index.search(queries[number : number + 1], WANTED)

    return (await cost(search, len(queries))).figures(f"{name}, bare FAISS flat")


async def built(name: str, index: FaissIndex, store: StoreState, queries: Vectors) -> list[Figure]:
    before = resident()
    first = await once(index.nearest(store, MODEL, queries[0], limit=CANDIDATES, files=None))
    prepared = await once(index.keeper.settled(store))
    return [
        *first.figures(f"{name}, first search", "wall"),
        *prepared.figures(f"{name}, then in the background", "wall"),
        Figure(f"{name}, memory", resident() - before, "MiB"),
        Figure(f"{name}, index", index.keeper.bytes / MIB, "MiB"),
    ]


async def searched(
    name: str, index: FaissIndex, store: StoreState, queries: Vectors, *, files: int
) -> list[Figure]:
    chosen = np.arange(1, files + 1, dtype=np.int64)

    async def nearest(number: int) -> object:
        return await index.nearest(store, MODEL, queries[number], limit=CANDIDATES, files=None)

    async def filtered(number: int) -> object:
        return await index.nearest(store, MODEL, queries[number], limit=CANDIDATES, files=chosen)

    async def matching(number: int) -> object:
        words = f"w{number} w{number * 7 + 100} w{number * 50 + 2000} w{number + 9000}"
        return await index.matching(store, words, limit=CANDIDATES, files=None)

    figures: list[Figure] = []
    for label, search in (
        ("nearest", nearest),
        ("nearest in 1 % of the files", filtered),
        ("matching four words", matching),
    ):
        figures += (await cost(search, len(queries))).figures(f"{name}, {label}")
    return figures


async def compared(sizes: Sequence[int], rounds: int) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(table(await measured(Path(folder), size, rounds)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    uvloop.run(compared(options.sizes, options.rounds))
