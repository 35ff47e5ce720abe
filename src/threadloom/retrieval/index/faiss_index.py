"""The index of vector stores in this process: FAISS for vectors, our own postings for words."""

import asyncio
from pathlib import Path

from threadloom.db.database import Database
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import FileSeqs, Scored, StoreState, halves
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.contents import read_chunks
from threadloom.retrieval.index.keeper import Keeper
from threadloom.retrieval.index.snapshots import MEASURED, Policy


class FaissIndex:
    """An `Index` that is built from rows; large stores have a file in `directory`."""

    def __init__(
        self, database: Database, directory: Path, memory: int, policy: Policy = MEASURED
    ) -> None:
        self.keeper = Keeper(
            database, CacheFiles(directory), memory, read=read_chunks, policy=policy
        )

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self.keeper.snapshot(store)
        return await asyncio.to_thread(
            halves.nearest, snapshot, model, query, limit=limit, files=files
        )

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self.keeper.snapshot(store)
        return await asyncio.to_thread(halves.matching, snapshot, text, limit=limit, files=files)

    async def close(self) -> None:
        await self.keeper.close()
