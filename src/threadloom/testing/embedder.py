"""An embedder without a model: texts that share words are alike. Deterministic and instant."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from threadloom.retrieval.embedder import EmbeddingError, Vector, Windows
from threadloom.retrieval.terms import terms_of


class HashEmbedder:
    """Each word adds or takes one in one of the dimensions; `fails` scripts what goes wrong."""

    def __init__(
        self, dimensions: int = 64, *, model: str = "hashed-words", weight: float = 0.3
    ) -> None:
        self.model = model
        self._weight = weight
        self.passages = 0
        self._dimensions = dimensions
        self._failures: deque[str] = deque()

    def fails(self, *sentences: str) -> None:
        """The next calls raise EmbeddingError, each with one of these sentences."""
        self._failures.extend(sentences)

    def weight_for(self, query: str) -> float:  # noqa: ARG002 - every text is words to it
        return self._weight

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        self._fail_if_scripted()
        self.passages += len(texts)
        return [hashed(text, self._dimensions)[np.newaxis] for text in texts]

    async def embed_query(self, text: str) -> Vector:
        self._fail_if_scripted()
        return hashed(text, self._dimensions)

    async def close(self) -> None:
        pass

    def _fail_if_scripted(self) -> None:
        if self._failures:
            raise EmbeddingError(self._failures.popleft())


def hashed(text: str, dimensions: int) -> Vector:
    terms = terms_of(text)
    signs = np.where(terms & np.uint32(1 << 31), -1.0, 1.0)
    vector = np.bincount(terms % np.uint32(dimensions), signs, dimensions).astype(np.float32)
    length = np.float32(np.linalg.norm(vector))
    if not length:
        vector[0] = length = np.float32(1)
    return vector / length
