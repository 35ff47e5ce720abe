"""Vectors in FAISS: a scan of all of them, exact, and a packed one that finds candidates ten times faster."""

from typing import Any, Protocol, cast

import faiss
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float16]
Mask = NDArray[np.bool_]

Hits = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions, and the inner products there, highest first."""

TRAINING = 50_000


class VectorIndex(Protocol):
    """What we use of FAISS; its own types speak of torch, which is not here."""

    ntotal: int

    def train(self, x: NDArray[np.float32]) -> None: ...
    def add(self, x: NDArray[np.float32]) -> None: ...
    def search(
        self, x: NDArray[np.float32], k: int, *, params: faiss.SearchParameters | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


def flat_index(vectors: Matrix) -> VectorIndex:
    """An exact index that reads `vectors` where they are; they must outlive it."""
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.ntotal = vectors.shape[0]
    # FAISS can read memory that it does not own, but its own way to say so cannot be called from Python.
    codes: Any = index.codes
    codes.is_owned = False
    codes.view_data = codes.c_ptr = faiss.swig_ptr(vectors.reshape(-1).view(np.uint8))
    codes.view_size = codes.c_size = vectors.nbytes
    return typed(index)


def typed(index: faiss.Index) -> VectorIndex:
    return cast(VectorIndex, index)  # numpy's half of each overload


def scan_index(vectors: Matrix) -> VectorIndex:
    """Four bits for each pair of numbers: it finds good candidates, and their order is only nearly right."""
    faiss.omp_set_num_threads(
        1
    )  # it is done in the background: what is in the foreground needs the others
    dimensions = vectors.shape[1]
    index = typed(faiss.IndexPQFastScan(dimensions, dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT))
    step = max(1, vectors.shape[0] // TRAINING)
    index.train(vectors[::step].astype(np.float32))
    for at in range(0, vectors.shape[0], TRAINING):
        index.add(vectors[at : at + TRAINING].astype(np.float32))
    return index


def packed_scan(index: VectorIndex) -> NDArray[np.uint8]:
    return faiss.serialize_index(cast(faiss.Index, index))  # it is one: see `typed`


def unpacked_scan(packed: NDArray[np.uint8]) -> VectorIndex:
    return typed(faiss.deserialize_index(packed))


def search(index: VectorIndex, query: NDArray[np.float32], count: int, among: Mask | None) -> Hits:
    """The best `count`; `among` are the positions that may be found."""
    count = min(count, index.ntotal)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    # One query has work for one thread: others would only wait for it, and burn as much time again.
    faiss.omp_set_num_threads(1)
    scores, positions = index.search(query[np.newaxis], count, params=only(among))
    found = positions[0] >= 0
    return positions[0][found], scores[0][found]


def only(among: Mask | None) -> faiss.SearchParameters | None:
    if among is None:
        return None
    bits = np.packbits(among, bitorder="little")
    # The wrapper takes what the types do not know, and keeps the bits alive.
    return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # pyright: ignore[reportCallIssue]


def products(vectors: Matrix, positions: NDArray[np.int64], query: NDArray[np.float32]) -> Hits:
    """The exact products at some positions, highest first."""
    chosen = vectors[positions]
    found, scores = search(flat_index(chosen), query, positions.size, None)
    return positions[found], scores
