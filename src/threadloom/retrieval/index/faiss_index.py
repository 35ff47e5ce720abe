"""The index of vector stores in this process: FAISS for vectors, our own postings for words."""

import asyncio
from pathlib import Path

from threadloom.db.database import Database
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import FileSeqs, Scored, StoreState, halves
from threadloom.retrieval.index.contents import read_chunks
from threadloom.retrieval.index.keeper import Keeper


class FaissIndex:
    """An `Index` that is built from rows."""

    def __init__(self, database: Database, directory: Path, memory: int) -> None:
        self._directory = directory
        self._keeper = Keeper(database, memory, read_chunks)

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self._keeper.snapshot(store)
        return await asyncio.to_thread(
            halves.nearest, snapshot, model, query, limit=limit, files=files
        )

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        snapshot = await self._keeper.snapshot(store)
        return await asyncio.to_thread(halves.matching, snapshot, text, limit=limit, files=files)

    async def close(self) -> None:
        pass
