"""Finds passages in vector stores: both halves of search in every store, fused, best first."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import bindparam, select

from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import ChunkRow, FileRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import ProjectTx
from threadloom.retrieval.embedder import Embedder, Vector
from threadloom.retrieval.filters import matching_files
from threadloom.retrieval.fusion import fuse
from threadloom.retrieval.index import NONE_SCORED, FileSeqs, Index, Scored, StoreState
from threadloom.types.filters import Filter
from threadloom.types.vector_stores import Attributes

CANDIDATES = 200
"""Chunks that each half of search proposes: as many as the fusion was measured with."""


PASSAGES = (
    select(
        ChunkRow.seq,
        ChunkRow.text,
        ChunkRow.page,
        ChunkRow.heading,
        ChunkRow.store_file_seq,
        ChunkRow.position,
        VectorStoreFileRow.file_id,
        VectorStoreFileRow.attributes,
        FileRow.filename,
    )
    .join(VectorStoreFileRow, VectorStoreFileRow.seq == ChunkRow.store_file_seq)
    .join(FileRow, FileRow.id == VectorStoreFileRow.file_id)
    .where(ChunkRow.seq.in_(bindparam("chunks", expanding=True)))
    .where(VectorStoreFileRow.project_id == bindparam("project_id"))
    .where(VectorStoreFileRow.status == "completed")
)


@dataclass(frozen=True)
class Hit:
    """A passage that was found; `score` is between 0 and 1."""

    file_id: str
    filename: str
    attributes: Attributes
    score: float
    text: str
    page: int | None
    heading: str | None
    store_file_seq: int
    position: int


@dataclass(frozen=True)
class Scope:
    """A store to look into, and the only files of it that may be found; None means all."""

    store: StoreState
    files: FileSeqs | None


class Search:
    """Searches the vector stores of projects."""

    def __init__(self, embedder: Embedder, index: Index) -> None:
        self._embedder = embedder
        self._index = index

    async def find(
        self,
        project: ProjectDatabase,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        limit: int,
        filters: Filter | None = None,
        score_threshold: float = 0.0,
        weight: float | None = None,
    ) -> list[Hit]:
        """The best passages for any of the queries; `weight` is the share of likeness against words.

        Raises NotFound, and EmbeddingError when the embedder does not answer.
        """
        scopes = await project.read(scopes_of, store_ids, filters)
        vectors = await asyncio.gather(*map(self._embedder.embed_query, queries))
        scored = await asyncio.gather(
            *(
                self._find_in(
                    scope,
                    query,
                    vector,
                    self._embedder.weight_for(query) if weight is None else weight,
                )
                for scope in scopes
                for query, vector in zip(queries, vectors, strict=True)
            )
        )
        best = merged(scored, limit=limit, score_threshold=score_threshold)
        return await project.read(hits_of, best) if best else []

    async def _find_in(self, scope: Scope, query: str, vector: Vector, weight: float) -> Scored:
        if scope.files is not None and not len(scope.files):
            return NONE_SCORED
        dense, lexical = await asyncio.gather(
            self._index.nearest(
                scope.store, self._embedder.model, vector, limit=CANDIDATES, files=scope.files
            ),
            self._index.matching(scope.store, query, limit=CANDIDATES, files=scope.files),
        )
        return fuse(dense, lexical, weight=weight)


def scopes_of(tx: ProjectTx, store_ids: Sequence[str], filters: Filter | None) -> list[Scope]:
    """The stores as they are now. Raises NotFound."""
    return [
        Scope(StoreState(store_id, row["generation"]), matching_files(tx, store_id, filters))
        for store_id in store_ids
        for row in [tx.show(VectorStoreRow, store_id)]
    ]


def merged(
    scored: Iterable[Scored], *, limit: int, score_threshold: float
) -> list[tuple[int, float]]:
    """The best chunks of several searches, each once with its best score."""
    found = list(scored)
    chunks = np.concatenate([one.chunks for one in found]) if found else NONE_SCORED.chunks
    scores = np.concatenate([one.scores for one in found]) if found else NONE_SCORED.scores
    order = np.argsort(-scores, kind="stable")
    best: dict[int, float] = {}
    for chunk, score in zip(chunks[order].tolist(), scores[order].tolist(), strict=True):
        if score < score_threshold or len(best) == limit:
            break
        best.setdefault(chunk, score)
    return list(best.items())


def hits_of(tx: ProjectTx, best: Sequence[tuple[int, float]]) -> list[Hit]:
    """The passages themselves, without those whose file went away meanwhile."""
    asked = {"chunks": [chunk for chunk, _ in best], "project_id": tx.project_id}
    found = {row.seq: row for row in tx.session.execute(PASSAGES, asked)}
    return [
        Hit(
            file_id=row.file_id,
            filename=row.filename,
            attributes=row.attributes,
            score=score,
            text=row.text,
            page=row.page,
            heading=row.heading,
            store_file_seq=row.store_file_seq,
            position=row.position,
        )
        for chunk, score in best
        if (row := found.get(chunk)) is not None
    ]
