"""The index that all others are compared with: it reads every row for every search, and keeps nothing."""

import numpy as np
from sqlalchemy import select

from threadloom.db.database import Database
from threadloom.db.rows import ChunkRow, VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import FileSeqs, Scored, StoreState
from threadloom.retrieval.lexical import Postings, bm25
from threadloom.retrieval.terms import query_terms


class BruteIndex:
    """An `Index`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        rows = await self._database.read(chunks_of, store.id)
        of_model = [
            row
            for row, file in rows
            if (file.embedding_model, file.dimensions) == (model, query.size)
        ]
        scored = [
            (row.seq, float(window @ query))
            for row in of_model
            if row.vectors and is_among(row, files)
            for window in [best_window(row, query)]
        ]
        return ranked(scored, limit)

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        rows = [row for row, _ in await self._database.read(chunks_of, store.id)]
        words = Postings.build([row.terms for row in rows])
        [scores] = bm25([words], query_terms(text), [None])
        pairs = zip(rows, scores.tolist(), strict=True)
        return ranked(
            [(row.seq, score) for row, score in pairs if score > 0 and is_among(row, files)], limit
        )

    async def close(self) -> None:
        pass


def chunks_of(tx: Tx, store_id: str) -> list[tuple[ChunkRow, VectorStoreFileRow]]:
    found = tx.session.execute(
        select(ChunkRow, VectorStoreFileRow)
        .join(VectorStoreFileRow, VectorStoreFileRow.seq == ChunkRow.store_file_seq)
        .where(
            VectorStoreFileRow.vector_store_id == store_id,
            VectorStoreFileRow.status == "completed",
        )
    )
    return [(row, file) for row, file in found]


def best_window(row: ChunkRow, query: Vector) -> Vector:
    windows = np.frombuffer(row.vectors, "<f2").reshape(-1, query.size).astype(np.float32)
    return windows[np.argmax(windows @ query)]


def is_among(row: ChunkRow, files: FileSeqs | None) -> bool:
    return files is None or row.store_file_seq in files


def ranked(scored: list[tuple[int, float]], limit: int) -> Scored:
    best = sorted(scored, key=lambda one: (-one[1], one[0]))[:limit]
    return Scored(
        np.array([seq for seq, _ in best], np.int64), np.array([s for _, s in best], np.float32)
    )
