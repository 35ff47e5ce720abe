"""The two halves of a search over a snapshot: nearest vectors and matching words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import NONE_SCORED, FileSeqs, Scored
from threadloom.retrieval.index.segments import Mask, Part, Segment
from threadloom.retrieval.index.snapshots import Snapshot
from threadloom.retrieval.index.vectors import Hits, products, search
from threadloom.retrieval.lexical import bm25
from threadloom.retrieval.terms import query_terms

NO_FILES = np.empty(0, np.int64)
CANDIDATES, CANDIDATES_EACH = 640, 4
"""How many candidates a packed scan gives, and more for each chunk that is wanted: enough for vectors without clusters."""
SPARE = 50
"""How many more chunks than wanted must be among them; otherwise every window is looked at."""


def nearest(
    snapshot: Snapshot, model: str, query: Vector, *, limit: int, files: FileSeqs | None
) -> Scored:
    found: list[Scored] = []
    for part in snapshot.parts:
        if part.segment.model == (model, query.size):
            positions, scores = nearest_in(part, query, limit, files)
            found.append(Scored(part.segment.chunks[positions], scores))
    return best(found, limit)


def nearest_in(part: Part, query: Vector, limit: int, files: FileSeqs | None) -> Hits:
    """Positions of chunks."""
    segment = part.segment
    if files is None and segment.scan:
        candidates = scanned(part, query, limit)
        if candidates[0].size >= limit + SPARE:
            return candidates
    chosen = chosen_chunks(part, files)
    among = None if chosen is None else chosen[segment.owners]
    # However many windows a chunk has, `limit` different chunks are among so many of them.
    hits = search(segment.flat, query, limit * segment.widest, among)
    return best_windows(segment, hits)


@dataclass(frozen=True)
class Extent:
    """What a search of one model's vectors is about: its files, how many windows they have, and a chunk at most."""

    files: FileSeqs
    windows: int
    widest: int


def extent(snapshot: Snapshot, model: tuple[str, int], files: FileSeqs | None) -> Extent:
    parts = [part for part in snapshot.parts if part.segment.model == model]
    chosen = [chosen_files(part, files) for part in parts]
    pairs = list(zip(parts, chosen, strict=True))
    return Extent(
        np.concatenate([part.segment.file_seqs[files] for part, files in pairs] or [NO_FILES]),
        sum(int(part.segment.windows_of_files[files].sum()) for part, files in pairs),
        max((part.segment.widest for part in parts), default=0),
    )


def scanned(part: Part, query: Vector, limit: int) -> Hits:
    """The candidates of the packed scan, exactly scored."""
    segment = part.segment
    assert segment.scan
    count = CANDIDATES + CANDIDATES_EACH * limit
    positions, _ = search(segment.scan, query, count, None)
    if part.alive_windows is not None:
        positions = positions[part.alive_windows[positions]]
    return best_windows(segment, products(segment.vectors, positions, query))


def best_windows(segment: Segment, hits: Hits) -> Hits:
    return firsts(segment.owners[hits[0]].astype(np.int64), hits[1])


def firsts(chunks: NDArray[np.int64], scores: NDArray[np.float32]) -> Hits:
    """Each chunk with the best of its windows, which is the first."""
    distinct, first = np.unique(chunks, return_index=True)
    order = np.argsort(first)
    return distinct[order], scores[first[order]]


def best_chunks(hits: Hits, limit: int) -> Scored:
    """From chunks of windows, best first, in which a chunk may stand several times."""
    return best([Scored(*firsts(*hits))], limit)


def matching(snapshot: Snapshot, text: str, *, limit: int, files: FileSeqs | None) -> Scored:
    terms = query_terms(text)
    if not terms.size or not snapshot.parts:
        return NONE_SCORED
    # What a filter hides still counts for how rare a word is: a filter does not change scores.
    scores = bm25(
        [part.segment.words for part in snapshot.parts],
        terms,
        [part.alive_chunks for part in snapshot.parts],
    )
    return best(
        [
            matching_in(part, each, limit, files)
            for part, each in zip(snapshot.parts, scores, strict=True)
        ],
        limit,
    )


def matching_in(
    part: Part, scores: NDArray[np.float32], limit: int, files: FileSeqs | None
) -> Scored:
    found = np.flatnonzero(scores > 0)
    if files is not None and (chosen := chosen_chunks(part, files)) is not None:
        found = found[chosen[found]]
    if found.size > limit:
        least = np.partition(scores[found], -limit)[-limit]
        found = found[scores[found] >= least]
    return Scored(part.segment.chunks[found], scores[found])


def chosen_chunks(part: Part, files: FileSeqs | None) -> Mask | None:
    """The chunks of live files that are also among `files`; None if all are."""
    if files is None:
        return part.alive_chunks
    chosen = chosen_files(part, files)
    return None if chosen.all() else part.segment.of_files(chosen)


def chosen_files(part: Part, files: FileSeqs | None) -> Mask:
    alive = np.ones(len(part.segment.files), np.bool_) if part.alive is None else part.alive
    return alive if files is None else alive & np.isin(part.segment.file_seqs, files)


def best(found: Sequence[Scored], limit: int) -> Scored:
    """The best of all; among equals the older one comes first, so that an answer is always the same."""
    if not found:
        return NONE_SCORED
    chunks = np.concatenate([one.chunks for one in found])
    scores = np.concatenate([one.scores for one in found])
    order = np.lexsort((chunks, -scores))[:limit]
    return Scored(chunks[order], scores[order])
