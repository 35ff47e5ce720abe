"""Joins what the two halves of search found."""

import numpy as np

from threadloom.retrieval.index import Scored


def fuse(dense: Scored, lexical: Scored, *, weight: float) -> Scored:
    """The weighted sum of likeness and words, best first; a chunk that only one half found has nothing from the other."""
    chunks, places = np.unique(np.concatenate([dense.chunks, lexical.chunks]), return_inverse=True)
    scores = np.zeros(chunks.size, np.float32)
    np.add.at(scores, places[: dense.chunks.size], weight * np.clip(dense.scores, 0, 1))
    np.add.at(scores, places[dense.chunks.size :], (1 - weight) * lexical.scores)
    order = np.argsort(-scores, kind="stable")
    return Scored(chunks[order], scores[order])
