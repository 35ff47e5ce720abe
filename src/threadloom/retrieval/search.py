"""Finds passages in vector stores: both halves of search in every store, fused, reranked if there is a reranker, best first."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import structlog
from sqlalchemy import Row, bindparam, or_, select

from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import ChunkRow, FileRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import ProjectTx
from threadloom.retrieval.embedder import Embedder, Vector
from threadloom.retrieval.filters import matching_files
from threadloom.retrieval.fusion import fuse
from threadloom.retrieval.index import NONE_SCORED, FileSeqs, Index, Scored, StoreState
from threadloom.retrieval.reranker import Reranker, RerankError
from threadloom.telemetry import genai, metrics
from threadloom.telemetry.spans import span
from threadloom.types.filters import Filter
from threadloom.types.vector_stores import Attributes

log = structlog.stdlib.get_logger()

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
    .where(or_(FileRow.expires_at.is_(None), FileRow.expires_at > bindparam("now")))
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

    def __init__(self, embedder: Embedder, index: Index, reranker: Reranker | None = None) -> None:
        self._embedder = embedder
        self._index = index
        self._reranker = reranker

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
        ranker: Literal["auto", "none"] = "auto",
    ) -> list[Hit]:
        """The best passages for any of the queries; `weight` is the share of likeness against words, and `none` reranks nothing.

        Raises NotFound, and EmbeddingError when the embedder does not answer.
        """
        with (
            metrics.SEARCHES.timed(),
            span("retrieval", "", {genai.DATA_SOURCE_ID: ",".join(store_ids)}),
        ):
            scopes = await project.read(scopes_of, store_ids, filters)
            scored = await asyncio.gather(
                *(self._find_for(query, scopes, weight) for query in queries)
            )
            if self._reranker is not None and ranker == "auto":
                scored = await reranked(project, self._reranker, queries, scored)
            best = merged(scored, limit=limit, score_threshold=score_threshold)
            return await project.read(hits_of, best) if best else []

    async def _find_for(self, query: str, scopes: Sequence[Scope], weight: float | None) -> Scored:
        """What all the scopes have for one query."""
        vector = await self._embedder.embed_query(query)
        share = self._embedder.weight_for(query) if weight is None else weight
        return joined(
            await asyncio.gather(*(self._find_in(scope, query, vector, share) for scope in scopes))
        )

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


async def reranked(
    project: ProjectDatabase, reranker: Reranker, queries: Sequence[str], scored: Sequence[Scored]
) -> Sequence[Scored]:
    """What was found for each query, as the reranker sees it; all of it as it was, when the reranker does not answer."""
    chunks = {chunk for one in scored for chunk in one.chunks[: reranker.candidates].tolist()}
    texts = await project.read(texts_of, chunks)
    result = scored
    try:
        async with asyncio.TaskGroup() as tasks:
            rerankings = [
                tasks.create_task(rerank(reranker, query, one, texts))
                for query, one in zip(queries, scored, strict=True)
            ]
    except* RerankError as failures:
        # For no query then: scores of the two kinds cannot be compared.
        log.warning("search goes on without its reranker", reason=str(failures.exceptions[0]))
    else:
        result = [reranking.result() for reranking in rerankings]
    return result


async def rerank(reranker: Reranker, query: str, found: Scored, texts: Mapping[int, str]) -> Scored:
    chunks = [chunk for chunk in found.chunks[: reranker.candidates].tolist() if chunk in texts]
    if not chunks:
        return found
    scores = await reranker.rerank(query, [texts[chunk] for chunk in chunks])
    return put_first(found, {chunks[place]: score for place, score in scores.items()})


def put_first(found: Scored, scores: Mapping[int, float]) -> Scored:
    """The chunks that have new scores by these, and below them the others as they stood."""
    known = np.isin(found.chunks, [*scores])
    new = np.array([scores[chunk] for chunk in found.chunks[known].tolist()], np.float32)
    rest = np.minimum(found.scores[~known], new.min(initial=1.0))
    return joined([Scored(found.chunks[known], new), Scored(found.chunks[~known], rest)])


def joined(found: Sequence[Scored]) -> Scored:
    """The chunks of several searches as one, best first."""
    chunks = np.concatenate([NONE_SCORED.chunks, *(one.chunks for one in found)])
    scores = np.concatenate([NONE_SCORED.scores, *(one.scores for one in found)])
    order = np.argsort(-scores, kind="stable")
    return Scored(chunks[order], scores[order])


def merged(
    scored: Sequence[Scored], *, limit: int, score_threshold: float
) -> list[tuple[int, float]]:
    """The best chunks of several searches, each once with its best score."""
    found = joined(scored)
    best: dict[int, float] = {}
    for chunk, score in zip(found.chunks.tolist(), found.scores.tolist(), strict=True):
        if score < score_threshold or len(best) == limit:
            break
        best.setdefault(chunk, score)
    return list(best.items())


def texts_of(tx: ProjectTx, chunks: Iterable[int]) -> dict[int, str]:
    return {seq: row.text for seq, row in passages(tx, chunks).items()}


def passages(tx: ProjectTx, chunks: Iterable[int]) -> dict[int, Row[*tuple[Any, ...]]]:
    """Without those whose file went away meanwhile, or has expired and is not swept yet."""
    asked = {"chunks": [*chunks], "project_id": tx.project_id, "now": tx.now}
    return {row.seq: row for row in tx.session.execute(PASSAGES, asked)}


def hits_of(tx: ProjectTx, best: Sequence[tuple[int, float]]) -> list[Hit]:
    found = passages(tx, [chunk for chunk, _ in best])
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
