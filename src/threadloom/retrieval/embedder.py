"""What turns text into vectors, as ingestion and search use it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from threadloom.errors import Unavailable

Vector = NDArray[np.float32]
"""Unit length, shape (dimensions,)."""
Windows = NDArray[np.float32]
"""One vector of unit length for each window of a text, shape (windows, dimensions)."""


class EmbeddingError(Unavailable):
    """The embedding model does not answer. Please try again in a moment."""


class Embedder(Protocol):
    """Turns text into vectors whose inner product is their likeness."""

    @property
    def model(self) -> str:
        """Its name, stored with what it embedded: vectors of two models cannot be compared."""
        ...

    def weight_for(self, query: str) -> float:
        """The share that likeness has in the scores of what `query` finds; less where the embedder understands less."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        """The windows of each text, in the order of the texts. Raises EmbeddingError."""
        ...

    async def embed_query(self, text: str) -> Vector:
        """Raises EmbeddingError."""
        ...

    async def close(self) -> None: ...
