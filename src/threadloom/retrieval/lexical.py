"""Search by words: BM25 over postings that are immutable, packed and can be memory-mapped (ADR 0008)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from threadloom.retrieval.terms import Terms

# How soon a repeated word stops counting, and how much a long text is held against it.
K1 = 1.5
B = 0.75

Alive = NDArray[np.bool_] | None
"""Which documents of a segment were not removed; None when none was."""


@dataclass(frozen=True)
class Postings:
    """Which documents of a segment have which terms; a document is its position in the segment.

    The documents of `terms[i]` are `documents[offsets[i]:offsets[i + 1]]`, ascending, each with its `counts` (255 at most).
    `lengths` has the number of words of each document.
    """

    terms: Terms
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    counts: NDArray[np.uint8]
    lengths: NDArray[np.float32]

    @classmethod
    def build(cls, packed: Sequence[bytes]) -> Self:
        """The segment of these documents, each given as its `terms.pack_terms`."""
        sizes = np.fromiter(map(len, packed), np.int64, len(packed)) // 6
        terms, counts = unpack_all(b"".join(packed), sizes)
        owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        # One sort of whole numbers orders by term, then document, and is many times faster than sorting positions.
        order = terms.astype(np.uint64)
        order <<= np.uint64(32)
        order |= np.arange(terms.size, dtype=np.uint64)
        order.sort()
        places = order.astype(np.uint32)
        order >>= np.uint64(32)
        distinct, starts = np.unique(order.astype(np.uint32), return_index=True)
        del order
        return cls(
            terms=distinct,
            offsets=np.append(starts, terms.size).astype(np.int64),
            documents=owners[places],
            counts=np.minimum(counts, 255).astype(np.uint8)[places],
            lengths=np.bincount(owners, weights=counts, minlength=len(sizes)).astype(np.float32),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What `from_arrays` makes the same segment from."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})  # pyright: ignore[reportArgumentType]

    def of(self, terms: Terms) -> list[slice]:
        """Where the documents of each term are; an empty slice for a term that none has."""
        places = np.searchsorted(self.terms, terms)
        known = places < self.terms.size
        known[known] = self.terms[places[known]] == terms[known]
        return [
            slice(self.offsets[place], self.offsets[place + 1]) if has else slice(0, 0)
            for place, has in zip(places.tolist(), known.tolist(), strict=True)
        ]


def unpack_all(joined: bytes, sizes: NDArray[np.int64]) -> tuple[Terms, NDArray[np.uint16]]:
    """The terms and counts of all documents, one after the other."""
    halves = np.frombuffer(joined, "<u2")
    is_count = np.repeat(
        np.tile([False, True], sizes.size), np.column_stack((2 * sizes, sizes)).ravel()
    )
    return halves[~is_count].view("<u4"), halves[is_count]


def bm25(
    segments: Sequence[Postings], terms: Terms, alive: Sequence[Alive]
) -> list[NDArray[np.float32]]:
    """The score of every document, by segment, as a share (0 to 1) of the highest score that this query could give.

    The statistics are those of all live documents of all segments together, so that neither removed documents nor the way
    in which documents were cut into segments change a score. Removed documents score 0.
    """
    found = [segment.of(terms) for segment in segments]
    weights = rarity(segments, found, alive)
    highest = float(weights.sum()) * (K1 + 1)
    mean = mean_length(segments, alive)
    return [
        score(segment, places, weights / highest, mean=mean, alive=mask)
        if highest
        else np.zeros(segment.lengths.size, np.float32)
        for segment, places, mask in zip(segments, found, alive, strict=True)
    ]


def rarity(
    segments: Sequence[Postings], found: Sequence[Sequence[slice]], alive: Sequence[Alive]
) -> NDArray[np.float32]:
    """The weight of each term: the fewer live documents have it, the more it tells."""
    total = sum(
        segment.lengths.size if mask is None else int(np.count_nonzero(mask))
        for segment, mask in zip(segments, alive, strict=True)
    )
    having = np.zeros(len(found[0]) if found else 0, np.float32)
    for segment, places, mask in zip(segments, found, alive, strict=True):
        having += [live_in(segment.documents[place], mask) for place in places]
    return np.log1p((total - having + 0.5) / (having + 0.5)).astype(np.float32)


def live_in(documents: NDArray[np.int32], alive: Alive) -> int:
    return documents.size if alive is None else int(np.count_nonzero(alive[documents]))


def mean_length(segments: Sequence[Postings], alive: Sequence[Alive]) -> float:
    """Words in a live document, on average; 1 when there is none, to be divided by."""
    live = [
        segment.lengths if mask is None else segment.lengths[mask]
        for segment, mask in zip(segments, alive, strict=True)
    ]
    documents = sum(lengths.size for lengths in live)
    words = sum(float(lengths.sum(dtype=np.float64)) for lengths in live)
    return words / documents if words else 1.0


def score(
    segment: Postings,
    found: Sequence[slice],
    weights: NDArray[np.float32],
    *,
    mean: float,
    alive: Alive,
) -> NDArray[np.float32]:
    """The sum over the terms of weight x (k1 + 1) x count / (count + k1 x (1 - b + b x length / mean length))."""
    scores = np.zeros(segment.lengths.size, np.float32)
    damping = segment.lengths * np.float32(K1 * B / mean) + np.float32(K1 * (1 - B))
    for place, weight in zip(found, weights, strict=True):
        documents = segment.documents[place]
        counts = segment.counts[place].astype(np.float32)
        scores[documents] += weight * np.float32(K1 + 1) * counts / (counts + damping[documents])
    if alive is not None:
        scores[~alive] = 0
    return scores
