"""Immutable pieces of a store's index (ADR 0009): the chunks of some files as arrays, from rows or from other segments."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from threadloom.retrieval.index.vectors import Mask, Matrix, VectorIndex, flat_index
from threadloom.retrieval.lexical import Postings


class File(NamedTuple):
    """A completed file as it was ingested: whatever changes its chunks changes this too.

    Rows have the numbers of others after a backup was restored, so the random id is part of it.
    """

    seq: int
    epoch: int
    first_chunk: int
    id: str
    model: str
    dimensions: int


class ChunkData(NamedTuple):
    """What a segment needs of a row of chunks; `size` is that of its vectors, also where they are not read."""

    seq: int
    file: int
    size: int
    vectors: bytes
    terms: bytes


@dataclass(frozen=True)
class Segment:
    """The chunks of files that one model embedded, file after file.

    The chunks of `files[i]` are `starts[i]:starts[i + 1]`; `owners` are the positions of the chunks that the windows in
    `vectors` belong to, ascending; `vectors` is empty where somebody else has them. `settled` means that nothing more needs to be prepared or saved; `scan` is the packed
    quantizer of large ones.
    """

    files: tuple[File, ...]
    starts: NDArray[np.int64]
    chunks: NDArray[np.int64]
    owners: NDArray[np.int32]
    vectors: Matrix
    words: Postings
    scan: VectorIndex | None = None
    settled: bool = False

    @property
    def model(self) -> tuple[str, int]:
        return self.files[0].model, self.files[0].dimensions

    @cached_property
    def file_seqs(self) -> NDArray[np.int64]:
        return np.fromiter((file.seq for file in self.files), np.int64, len(self.files))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many chunks each file has."""
        return np.diff(self.starts)

    @cached_property
    def windows_of_files(self) -> NDArray[np.int64]:
        """How many windows each file has."""
        return np.diff(np.searchsorted(self.owners, self.starts))

    @cached_property
    def widest(self) -> int:
        """The most windows that a chunk has."""
        return int(np.bincount(self.owners).max()) if self.owners.size else 0

    @property
    def size(self) -> int:
        """How much work there is with it."""
        return max(self.chunks.size, self.owners.size)

    @property
    def bytes(self) -> int:
        arrays = (
            self.starts,
            self.chunks,
            self.owners,
            self.vectors,
            *self.words.arrays().values(),
        )
        scan = self.vectors.nbytes // 8 if self.scan else 0
        return sum(array.nbytes for array in arrays) + scan + 200 * len(self.files)

    @cached_property
    def flat(self) -> VectorIndex:
        """Looks at every window."""
        return flat_index(self.vectors)

    def of_files(self, chosen: Mask) -> Mask:
        """The chunks of the chosen files."""
        return np.repeat(chosen, self.sizes)


@dataclass(frozen=True)
class Part:
    """A segment as one generation sees it. `alive` are the files that count; None if all do."""

    segment: Segment
    alive: Mask | None

    @property
    def live_files(self) -> Sequence[File]:
        files = self.segment.files
        return files if self.alive is None else list(compress(files, self.alive))

    @cached_property
    def alive_chunks(self) -> Mask | None:
        return None if self.alive is None else self.segment.of_files(self.alive)

    @cached_property
    def alive_windows(self) -> Mask | None:
        chunks = self.alive_chunks
        return None if chunks is None else chunks[self.segment.owners]

    @cached_property
    def weight(self) -> int:
        """What is alive, in chunks."""
        chunks = self.alive_chunks
        return self.segment.chunks.size if chunks is None else int(np.count_nonzero(chunks))


def build_segment(files: Sequence[File], rows: Sequence[ChunkData]) -> Segment:
    """The files are of one model; the rows of a file follow one another, in the order of the files."""
    dimensions, chunks = files[0].dimensions, len(rows)
    places = {file.seq: at for at, file in enumerate(files)}
    counts = np.bincount(
        np.fromiter((places[row.file] for row in rows), np.int64, chunks), minlength=len(files)
    )
    windows = np.fromiter((windows_in(row, dimensions) for row in rows), np.int64, chunks)
    vectors = b"".join(row.vectors for row in rows if windows_in(row, dimensions))
    return Segment(
        files=tuple(files),
        starts=np.concatenate(([0], np.cumsum(counts))),
        chunks=np.fromiter((row.seq for row in rows), np.int64, chunks),
        owners=np.repeat(np.arange(chunks, dtype=np.int32), windows),
        vectors=np.frombuffer(vectors, "<f2").reshape(-1, max(dimensions, 1)),
        words=Postings.build([row.terms for row in rows]),
    )


def windows_in(row: ChunkData, dimensions: int) -> int:
    """None while the file is being embedded anew: then its model is not known, and its vectors are of two."""
    whole = dimensions and row.size % (2 * dimensions) == 0
    return row.size // (2 * dimensions) if whole else 0


def build_segments(files: Iterable[File], rows: Iterable[ChunkData]) -> list[Segment]:
    """A segment for each model."""
    by_model: dict[tuple[str, int], list[File]] = {}
    for file in files:
        by_model.setdefault((file.model, file.dimensions), []).append(file)
    by_file: dict[int, list[ChunkData]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    return [
        build_segment(group, [row for file in group for row in by_file.get(file.seq, ())])
        for group in by_model.values()
    ]


def merged(parts: Sequence[Part]) -> Segment:
    """What is alive in segments of one model, as one segment."""
    if len(parts) == 1 and parts[0].alive is None:
        return parts[0].segment
    lives = [Live.of(part) for part in parts]
    firsts = np.cumsum([0, *(live.chunks.size for live in lives)])
    sizes = np.concatenate([live.sizes for live in lives])
    return Segment(
        files=tuple(file for live in lives for file in live.files),
        starts=np.concatenate(([0], np.cumsum(sizes))),
        chunks=np.concatenate([live.chunks for live in lives]),
        owners=np.concatenate(
            [live.owners + np.int32(first) for live, first in zip(lives, firsts, strict=False)]
        ),
        vectors=np.concatenate([live.vectors for live in lives]),
        words=merged_words([part.segment.words for part in parts], [live.moved for live in lives]),
    )


@dataclass(frozen=True)
class Live:
    """What is alive in a part. `moved` are the new positions of its chunks, -1 for those that are gone."""

    files: tuple[File, ...]
    sizes: NDArray[np.int64]
    chunks: NDArray[np.int64]
    owners: NDArray[np.int32]
    vectors: Matrix
    moved: NDArray[np.int32]

    @classmethod
    def of(cls, part: Part) -> Self:
        segment, alive = part.segment, part.alive
        chosen = np.ones(len(segment.files), np.bool_) if alive is None else alive
        chunks = segment.of_files(chosen)
        windows = chunks[segment.owners]
        moved = np.where(chunks, np.cumsum(chunks) - 1, -1).astype(np.int32)
        return cls(
            files=tuple(part.live_files),
            sizes=segment.sizes[chosen],
            chunks=segment.chunks[chunks],
            owners=moved[segment.owners[windows]],
            vectors=segment.vectors[windows] if segment.vectors.size else segment.vectors,
            moved=moved,
        )


def merged_words(words: Sequence[Postings], moved: Sequence[NDArray[np.int32]]) -> Postings:
    """The postings of the documents that stay, at their new positions."""
    pieces = [staying(each, to) for each, to in zip(words, moved, strict=True)]
    firsts = np.cumsum([0, *(piece.lengths.size for piece in pieces)])
    terms = np.concatenate([piece.terms for piece in pieces])
    documents = np.concatenate(
        [piece.documents + np.int32(at) for piece, at in zip(pieces, firsts, strict=False)]
    )
    # Each piece is sorted by term and document, and so stays whatever a stable sort by term leaves together.
    order = np.argsort(terms, kind="stable")
    distinct, starts = np.unique(terms[order], return_index=True)
    return Postings(
        terms=distinct,
        offsets=np.append(starts, terms.size).astype(np.int64),
        documents=documents[order],
        counts=np.concatenate([piece.counts for piece in pieces])[order],
        lengths=np.concatenate([piece.lengths for piece in pieces]),
    )


def staying(words: Postings, moved: NDArray[np.int32]) -> Postings:
    """Only the documents that are moved somewhere, with a term for each of their postings."""
    stays = moved[words.documents] >= 0
    return Postings(
        terms=np.repeat(words.terms, np.diff(words.offsets))[stays],
        offsets=words.offsets,
        documents=moved[words.documents[stays]],
        counts=words.counts[stays],
        lengths=words.lengths[moved >= 0],
    )
