"""Joins what the two halves of search found (measured in docs/retrieval.md)."""

import numpy as np

from threadloom.retrieval.index import Scored


def fuse(dense: Scored, lexical: Scored, *, weight: float) -> Scored:
    """`weight` times the likeness and the rest times the words, best first.

    Both are absolute, and so is their sum: what answers nothing scores low, and a threshold means the same for every question.
    """
    chunks, places = np.unique(np.concatenate([dense.chunks, lexical.chunks]), return_inverse=True)
    # A chunk that only words found was not among the most alike, but may be hardly less so than the last of them.
    likeness = np.full(chunks.size, min(dense.scores, default=0.0), np.float32)
    likeness[places[: dense.chunks.size]] = dense.scores
    words = np.zeros(chunks.size, np.float32)
    words[places[dense.chunks.size :]] = lexical.scores
    scores = (weight * np.clip(likeness, 0, 1) + (1 - weight) * words).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return Scored(chunks[order], scores[order])
