"""Where the chunks of vector stores are found again. An index is a cache: the rows of chunks are the truth."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threadloom.retrieval.embedder import Vector


@dataclass(frozen=True)
class StoreState:
    """A vector store as a search found it: its rows, and how often its contents changed."""

    id: str
    generation: int


@dataclass(frozen=True)
class Scored:
    """Chunks by their `seq` and how well they match, best first; each chunk once."""

    chunks: NDArray[np.int64]
    scores: NDArray[np.float32]


NONE_SCORED = Scored(np.empty(0, np.int64), np.empty(0, np.float32))

FileSeqs = NDArray[np.int64]
"""`seq`s of rows of vector store files, sorted."""


class Index(Protocol):
    """Both halves of search over the completed files of a store. Safe to use from several tasks and processes at once."""

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        """Up to `limit` chunks by the cosine of their best window; only those in `files`, if given.

        Files embedded by another model than `model` are not among them.
        """
        ...

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        """Up to `limit` chunks by BM25 over the words of `text`, as a share (0 to 1) of the highest score possible."""
        ...

    async def close(self) -> None: ...
