"""A hundred thousand vectors: a packed scan finds nearly all that an exact one does, and under a filter all."""

from dataclasses import replace

import numpy as np
import pytest

from tests.retrieval.index.rows import MODEL, Windows, clustered, normal, unit
from threadloom.retrieval.index import FileSeqs
from threadloom.retrieval.index.contents import Contents
from threadloom.retrieval.index.halves import nearest
from threadloom.retrieval.index.segments import File, Segment
from threadloom.retrieval.index.snapshots import MEASURED, Snapshot, arrange
from threadloom.retrieval.index.vectors import scan_index
from threadloom.retrieval.lexical import Postings

WINDOWS, DIMENSIONS, OF_FILE, QUERIES = 100_000, 384, 100, 40
FILES = [File(seq, 1, seq, f"file-{seq}", MODEL, DIMENSIONS) for seq in range(WINDOWS // OF_FILE)]


def segment_of(files: list[File], vectors: Windows) -> Segment:
    """Each window is a chunk, whose number is the window's."""
    chunks = len(files) * OF_FILE
    return Segment(
        files=tuple(files),
        starts=np.arange(0, chunks + 1, OF_FILE),
        chunks=np.arange(files[0].seq * OF_FILE, files[0].seq * OF_FILE + chunks),
        owners=np.arange(chunks, dtype=np.int32),
        vectors=vectors.astype(np.float16),
        words=Postings.build([b""] * chunks),
    )


@pytest.fixture(scope="module")
def vectors() -> Windows:
    return clustered(np.random.default_rng(11), WINDOWS, DIMENSIONS, spread=0.8)


@pytest.fixture(scope="module")
def queries(vectors: Windows) -> Windows:
    """Near some of the vectors, as questions are near their answers."""
    chance = np.random.default_rng(12)
    near = vectors[chance.integers(0, WINDOWS, QUERIES)]
    return unit(near + normal(chance, QUERIES, DIMENSIONS) * (0.5 / DIMENSIONS**0.5))


@pytest.fixture(scope="module")
def snapshot(vectors: Windows) -> Snapshot:
    """A packed segment with nine tenths of the files, some of them removed, and a flat one with the others."""
    assert MEASURED.scan < WINDOWS
    cut = len(FILES) * 9 // 10
    main = segment_of(FILES[:cut], vectors[: cut * OF_FILE])
    packed = replace(main, scan=scan_index(main.vectors))
    delta = segment_of(FILES[cut:], vectors[cut * OF_FILE :])
    live = {file: 0 for file in FILES if file.seq % 9}
    snapshot, missing = arrange(Contents(1, live), [packed, delta])
    assert not missing
    return snapshot


def recall(snapshot: Snapshot, vectors: Windows, queries: Windows, files: FileSeqs | None) -> float:
    """The share of the twenty best live windows, of these files, that are found."""
    owners = np.arange(WINDOWS) // OF_FILE
    among = (owners % 9 > 0) & (True if files is None else np.isin(owners, files))
    scores = np.where(among, queries @ vectors.astype(np.float16).astype(np.float32).T, -2)
    best = np.argpartition(-scores, 20, axis=1)[:, :20]
    found = [nearest(snapshot, MODEL, query, limit=20, files=files).chunks for query in queries]
    return float(np.mean([np.isin(*pair).mean() for pair in zip(best, found, strict=True)]))


def test_recall_is_at_least_98_percent(
    snapshot: Snapshot, vectors: Windows, queries: Windows
) -> None:
    assert recall(snapshot, vectors, queries, None) >= 0.98


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_recall_is_perfect_under_a_filter(
    snapshot: Snapshot, vectors: Windows, queries: Windows, share: float
) -> None:
    chosen = np.random.default_rng(13).choice(len(FILES), int(share * len(FILES)), replace=False)
    files = np.sort(chosen).astype(np.int64)
    assert recall(snapshot, vectors, queries[:20], files) == 1.0


def test_vectors_without_any_likeness_are_found_too() -> None:
    chance = np.random.default_rng(14)
    noise = unit(normal(chance, WINDOWS, DIMENSIONS))
    segment = segment_of(FILES, noise)
    packed = replace(segment, scan=scan_index(segment.vectors))
    live = {file: 0 for file in FILES if file.seq % 9}
    snapshot, _ = arrange(Contents(1, live), [packed])
    asked = unit(noise[:QUERIES] + normal(chance, QUERIES, DIMENSIONS) / DIMENSIONS**0.5)
    assert recall(snapshot, noise, asked, None) >= 0.98
