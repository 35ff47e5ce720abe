"""The index of vector stores in PostgreSQL: pgvector for vectors, our own postings in this process for words."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import NONE_SCORED, FileSeqs, Scored, StoreState, halves
from threadloom.retrieval.index import pgvector_table as table
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.contents import batches, read_words
from threadloom.retrieval.index.halves import best_chunks
from threadloom.retrieval.index.keeper import SWEEP_EVERY, TRIES, Keeper
from threadloom.retrieval.index.pgvector_graphs import Graphs
from threadloom.retrieval.index.snapshots import MEASURED, Policy, Snapshot

log = structlog.get_logger()

PAUSE = 300.0
"""Seconds until a graph is tried again that was not built, or that another process was building."""
Graph = tuple[str, str, int]
"""A store, a model and its dimensions."""


class PgvectorIndex:
    """An `Index` whose vectors are in a table that all processes share (`pgvector_table.prepare` makes it).

    A store with few windows is looked at row by row; a large one has a graph, but only once it is built, and a search of
    few of its files does without.
    """

    def __init__(
        self, database: Database, directory: Path, memory: int, policy: Policy = MEASURED
    ) -> None:
        self._database = database
        self._policy = policy
        # The same stores' files with vectors are those of another index.
        self._keeper = Keeper(
            database, CacheFiles(directory / "words"), memory, read=read_words, policy=policy
        )
        self._graphs = Graphs(database.direct)
        self._background = ThreadPoolExecutor(1, "graphs")
        self._build_at: dict[Graph, float] = {}
        self._written: dict[str, int] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sweep_at = 0.0

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self._keeper.snapshot(store)
        await self._write(store.id, snapshot)
        within = await asyncio.to_thread(halves.extent, snapshot, (model, query.size), files)
        if not within.windows:
            return NONE_SCORED
        # However many windows a chunk has, `limit` different chunks are among so many of them.
        asked = table.Asked(store.id, model, query, limit * within.widest, within.files)
        if within.windows > self._policy.scan:
            self._build((store.id, model, query.size))
            found = await self._database.read(table.approximate, asked)
            if len(found[0]) >= min(asked.count, within.windows):
                return best_chunks(found, limit)
        return best_chunks(await self._database.read(table.exact, asked), limit)

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self._keeper.snapshot(store)
        return await asyncio.to_thread(halves.matching, snapshot, text, limit=limit, files=files)

    async def close(self) -> None:
        await asyncio.to_thread(self._graphs.cancel)
        await asyncio.to_thread(self._background.shutdown, cancel_futures=True)
        await self._keeper.close()

    async def idle(self) -> None:
        """Wait until nothing is done in the background."""
        await asyncio.wrap_future(self._background.submit(int))

    async def _write(self, store_id: str, snapshot: Snapshot) -> None:
        """Bring the table up to a snapshot at least, by difference."""
        if self._written.get(store_id, -1) >= snapshot.generation:
            return
        async with self._locks.setdefault(store_id, asyncio.Lock()):
            if self._written.get(store_id, -1) >= snapshot.generation:
                return
            await self._sweep()
            for _ in range(TRIES):
                due = await self._database.read(table.difference, store_id)
                if not due.missing and not due.stale:
                    break
                await self._take_in(store_id, due)
            self._written[store_id] = snapshot.generation

    async def _take_in(self, store_id: str, due: table.Difference) -> None:
        await self._database.write(table.write_files, store_id, (), due.stale)
        for batch in batches(list(due.missing), due.missing):
            await self._database.write(table.write_files, store_id, batch, ())

    async def _sweep(self) -> None:
        """Remove what is there of stores that are gone, now and then."""
        if self._database.clock.now() < self._sweep_at:
            return
        self._sweep_at = self._database.clock.now() + SWEEP_EVERY
        await self._database.write(table.sweep)
        self._background.submit(self._sweep_graphs)

    def _sweep_graphs(self) -> None:
        with warning():
            self._graphs.sweep()

    def _build(self, graph: Graph) -> None:
        """In the background, unless that is done, or under way, or failed a moment ago."""
        if self._database.clock.now() >= self._build_at.get(graph, 0.0):
            self._build_at[graph] = inf
            self._background.submit(self._try_to_build, graph)

    def _try_to_build(self, graph: Graph) -> None:
        is_there = False
        with warning():
            is_there = self._graphs.build(*graph)
        if not is_there:
            self._build_at[graph] = self._database.clock.now() + PAUSE


@contextmanager
def warning() -> Generator[None]:
    """Searches find the same without a graph, only later."""
    try:
        yield
    except SQLAlchemyError as error:
        log.warning("graph was not built", error=type(error).__name__)
