"""What tests of indexes do again and again."""

import numpy as np

from tests.retrieval.index.brute import BruteIndex
from tests.retrieval.index.rows import MODEL, FileData, Filled, clustered
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import FileSeqs, Index, Scored, StoreState
from threadloom.retrieval.index.faiss_index import FaissIndex

DIMENSIONS = 16
WORDS = ["apple", "pear", "plum", "quince", "cherry", "fig", "grape", "melon", "lime", "date"]
TEXT = "a quince, a fig and some apples"


def some_files(
    chance: np.random.Generator, count: int, dimensions: int = DIMENSIONS
) -> list[FileData]:
    """Files of one to four chunks of one to five windows."""
    return [
        FileData(
            [
                clustered(chance, int(chance.integers(1, 6)), dimensions)
                for _ in range(int(chance.integers(1, 5)))
            ],
            [" ".join(chance.choice(WORDS, 6)) for _ in range(4)],
        )
        for _ in range(count)
    ]


def same(found: Scored, expected: Scored) -> None:
    """Equal scores, and equal chunks wherever no other has the same score."""
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    gaps = np.abs(expected.scores[:, None] - expected.scores[None, :]) < 2e-5
    alone = gaps.sum(axis=1) == 1
    alone[-1:] = False  # an equal one may have been cut off
    np.testing.assert_array_equal(found.chunks[alone], expected.chunks[alone])


async def assert_like_brute_force(
    index: Index,
    store: Filled,
    query: Vector,
    *,
    limit: int = 10,
    files: FileSeqs | None = None,
) -> None:
    now, brute = await store.state(), BruteIndex(store.database)
    same(
        await index.nearest(now, MODEL, query, limit=limit, files=files),
        await brute.nearest(now, MODEL, query, limit=limit, files=files),
    )
    same(
        await index.matching(now, TEXT, limit=limit, files=files),
        await brute.matching(now, TEXT, limit=limit, files=files),
    )


class SettledIndex(FaissIndex):
    """Waits for what is prepared in the background before it answers."""

    async def nearest(
        self, store: StoreState, model: str, query: Vector, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        await self.keeper.settled(store)
        return await super().nearest(store, model, query, limit=limit, files=files)

    async def matching(
        self, store: StoreState, text: str, *, limit: int, files: FileSeqs | None
    ) -> Scored:
        await self.keeper.settled(store)
        return await super().matching(store, text, limit=limit, files=files)
