"""A reranker without a model: a text is as good as the share of the question's words that it has."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from threadloom.retrieval.reranker import RerankError
from threadloom.retrieval.terms import query_terms, terms_of


class WordReranker:
    """Keeps the questions and texts that it got; `fails` scripts what goes wrong."""

    def __init__(self, candidates: int = 50) -> None:
        self.candidates = candidates
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        self._failures: deque[str] = deque()

    def fails(self, *sentences: str) -> None:
        """The next calls raise RerankError, each with one of these sentences."""
        self._failures.extend(sentences)

    async def rerank(self, query: str, texts: Sequence[str]) -> dict[int, float]:
        self.requests.append((query, tuple(texts)))
        if self._failures:
            raise RerankError(self._failures.popleft())
        return {place: overlap(query, text) for place, text in enumerate(texts)}


def overlap(query: str, text: str) -> float:
    asked = query_terms(query)
    return float(np.isin(asked, terms_of(text)).mean()) if asked.size else 0.0
