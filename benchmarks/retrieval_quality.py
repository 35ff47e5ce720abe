"""How well search finds: vectors alone, words alone, and both as the server joins them.

    python -m benchmarks.retrieval_quality [--only NAME ...] [--weight 0.6]

The collections are made of Debian packages (`benchmarks/retrieval_collections.py`); they and their vectors are kept in
`.cache/retrieval`. nDCG and recall count the first ten documents; a document stands where its best chunk does.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval_collections import Collection, collections
from benchmarks.retrieval_texts import CACHE
from threadloom.retrieval.embedded_embedder import EmbeddedEmbedder
from threadloom.retrieval.embedder import Embedder, Windows
from threadloom.retrieval.fusion import fuse
from threadloom.retrieval.index import Scored
from threadloom.retrieval.lexical import Postings, bm25
from threadloom.retrieval.search import CANDIDATES
from threadloom.retrieval.terms import pack_terms, query_terms

CUT = 10
THRESHOLDS = (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
# Questions of each other collection that are put to a collection which does not answer them.
STRANGERS = 40
# A question in another language would be too easy to tell.
ENGLISH = ("perl-faq", "python-faq", "debian-faq", "postgresql", "manual-en")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    ndcg: float
    recall: float


@dataclass(frozen=True)
class Searcher:
    """One collection, ready to be asked."""

    collection: Collection
    windows: Windows
    first_windows: NDArray[np.int64]
    queries: Floats
    postings: Postings

    def nearest(self, vector: Floats) -> Scored:
        return best(np.maximum.reduceat(self.windows @ vector, self.first_windows))

    def matching(self, question: str) -> Scored:
        (scores,) = bm25([self.postings], query_terms(question), [None])
        found = best(scores)
        return Scored(found.chunks[found.scores > 0], found.scores[found.scores > 0])

    def documents(self, found: Scored) -> list[int]:
        """Each once, best first."""
        chunks: list[int] = found.chunks.tolist()
        return [*dict.fromkeys(self.collection.documents[chunk] for chunk in chunks)][:CUT]


def best(scores: Floats) -> Scored:
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    return Scored(order, scores[order])


async def searcher(collection: Collection, embedder: Embedder) -> Searcher:
    path = CACHE / f"{collection.name}-{collection.key}-{embedder.model}.npz"
    if not path.exists():
        await embed(collection, embedder, path)
    stored = np.load(path)
    counts: NDArray[np.int64] = stored["counts"]
    return Searcher(
        collection,
        stored["windows"].astype(np.float32),
        np.cumsum(counts) - counts,
        stored["queries"],
        Postings.build([pack_terms(passage) for passage in collection.passages]),
    )


async def embed(collection: Collection, embedder: Embedder, path: Path) -> None:
    windows = await embedder.embed_passages(collection.passages)
    queries = [await embedder.embed_query(question) for question in collection.questions]
    np.savez(
        path,
        windows=np.concatenate(windows).astype(np.float16),  # as rows of chunks keep them
        counts=np.array([len(of_chunk) for of_chunk in windows], np.int64),
        queries=np.stack(queries),
    )


Weigh = Callable[[str], float]


def measured(searcher: Searcher, weigh: Weigh) -> list[Quality]:
    """Of vectors, of words, and of both."""
    asked = [*zip(searcher.collection.questions, searcher.queries, strict=True)]
    dense = [searcher.nearest(vector) for _, vector in asked]
    lexical = [searcher.matching(question) for question, _ in asked]
    both = [
        fuse(*halves, weight=weigh(question))
        for *halves, (question, _) in zip(dense, lexical, asked, strict=True)
    ]
    return [quality(searcher, found) for found in (dense, lexical, both)]


def quality(searcher: Searcher, found: Sequence[Scored]) -> Quality:
    each = [
        judged(searcher.documents(one), answers)
        for one, answers in zip(found, searcher.collection.answers, strict=True)
    ]
    return Quality(
        float(np.mean([one.ndcg for one in each])), float(np.mean([one.recall for one in each]))
    )


def judged(documents: Sequence[int], answers: frozenset[int]) -> Quality:
    gains = [gain(place) for place, document in enumerate(documents) if document in answers]
    possible = min(CUT, len(answers))
    return Quality(sum(gains) / sum(map(gain, range(possible))), len(gains) / possible)


def gain(place: int) -> float:
    return float(1 / np.log2(place + 2))


def best_scores(
    searcher: Searcher, questions: Sequence[str], vectors: Floats, weigh: Weigh
) -> Floats:
    """The score of the first hit for each question."""
    return np.array(
        [
            fuse(
                searcher.nearest(vector), searcher.matching(question), weight=weigh(question)
            ).scores[0]
            for question, vector in zip(questions, vectors, strict=True)
        ],
        np.float32,
    )


def thresholds(searchers: Sequence[Searcher], weigh: Weigh) -> Iterator[str]:
    """Whose first hit stays at a threshold: questions that a collection answers, and those of other collections."""
    own, foreign = list[Floats](), list[Floats]()
    for one in searchers:
        own.append(best_scores(one, one.collection.questions, one.queries, weigh))
        foreign += [
            best_scores(
                one, other.collection.questions[:STRANGERS], other.queries[:STRANGERS], weigh
            )
            for other in searchers
            if other is not one
        ]
    answered, unanswered = np.concatenate(own), np.concatenate(foreign)
    yield "| `score_threshold` | questions it answers | questions it does not |"
    yield "|---|---|---|"
    for threshold in THRESHOLDS:
        yield f"| {threshold} | {(answered >= threshold).mean():.0%} | {(unanswered >= threshold).mean():.0%} |"


def table(rows: Sequence[tuple[str, str, list[Quality]]]) -> Iterator[str]:
    yield "| | chunks, questions | vectors | words | both | vectors | words | both |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, sizes, qualities in rows:
        ndcg = " | ".join(f"{one.ndcg:.3f}" for one in qualities)
        recall = " | ".join(f"{one.recall:.3f}" for one in qualities)
        yield f"| {name} | {sizes} | {ndcg} | {recall} |"


def mean(rows: Sequence[list[Quality]]) -> list[Quality]:
    return [
        Quality(
            float(np.mean([one.ndcg for one in column])),
            float(np.mean([one.recall for one in column])),
        )
        for column in zip(*rows, strict=True)
    ]


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval_quality")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--weight", type=float, help="of vectors, instead of the embedder's own")
    options = parser.parse_args()
    embedder = EmbeddedEmbedder()
    chosen = [one for one in collections() if not options.only or one.name in options.only]
    searchers = [await searcher(one, embedder) for one in chosen]
    await embedder.close()
    chosen_weight: float | None = options.weight
    report(searchers, embedder.weight_for if chosen_weight is None else lambda _: chosen_weight)


def report(searchers: Sequence[Searcher], weigh: Weigh) -> None:
    rows = [
        (
            one.collection.name,
            f"{len(one.collection.passages):,}, {len(one.collection.questions)}",
            measured(one, weigh),
        )
        for one in searchers
    ]
    print(f"nDCG@{CUT} left, recall@{CUT} right\n")
    print("\n".join(table([*rows, ("mean", "", mean([row[2] for row in rows]))])), end="\n\n")
    english = [one for one in searchers if one.collection.name in ENGLISH]
    print("\n".join(thresholds(english, weigh)))


if __name__ == "__main__":
    asyncio.run(main())
