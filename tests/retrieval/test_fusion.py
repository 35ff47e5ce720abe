"""How the two halves of search become one score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.retrieval.fusion import fuse
from threadloom.retrieval.index import NONE_SCORED, Scored


def scored(found: dict[int, float]) -> Scored:
    best = sorted(found.items(), key=lambda item: -item[1])
    return Scored(
        np.array([chunk for chunk, _ in best], np.int64),
        np.array([score for _, score in best], np.float32),
    )


def shown(found: Scored) -> dict[int, float]:
    return dict(zip(found.chunks.tolist(), found.scores.tolist(), strict=True))


def halves(least: float) -> st.SearchStrategy[Scored]:
    return st.dictionaries(st.integers(0, 20), st.floats(least, 1, width=32), max_size=8).map(
        scored
    )


def test_the_score_is_the_weighted_sum() -> None:
    found = fuse(scored({1: 0.8, 2: 0.5}), scored({2: 0.9, 1: 0.1}), weight=0.6)
    assert shown(found) == pytest.approx({2: 0.66, 1: 0.52})
    assert found.chunks.tolist() == [2, 1]


def test_what_only_words_found_is_as_alike_as_the_last_that_likeness_found() -> None:
    found = fuse(scored({1: 0.8, 2: 0.4}), scored({3: 0.5}), weight=0.5)
    assert shown(found) == pytest.approx({3: 0.45, 1: 0.4, 2: 0.2})


def test_what_only_likeness_found_has_nothing_for_words() -> None:
    assert shown(fuse(scored({1: 0.8}), NONE_SCORED, weight=0.5)) == pytest.approx({1: 0.4})


def test_unlike_is_not_less_than_nothing() -> None:
    assert shown(fuse(scored({1: -0.4}), scored({1: 0.5}), weight=0.5)) == pytest.approx({1: 0.25})


def test_words_alone_are_enough() -> None:
    assert shown(fuse(NONE_SCORED, scored({7: 0.5}), weight=0.5)) == pytest.approx({7: 0.25})


def test_nothing_found_twice_is_nothing() -> None:
    assert shown(fuse(NONE_SCORED, NONE_SCORED, weight=0.5)) == {}


def test_equal_scores_keep_the_older_chunk_first() -> None:
    found = fuse(scored({9: 0.5, 3: 0.5, 5: 0.5}), NONE_SCORED, weight=0.5)
    assert found.chunks.tolist() == [3, 5, 9]


@pytest.mark.parametrize(("weight", "first"), [(1.0, 1), (0.0, 2)])
def test_one_half_can_be_given_everything(weight: float, first: int) -> None:
    found = fuse(scored({1: 0.8, 2: 0.5}), scored({2: 0.9, 1: 0.1}), weight=weight)
    assert found.chunks[0] == first


@given(halves(-1), halves(0), st.floats(0, 1))
def test_each_chunk_stands_once_with_a_score_between_0_and_1_best_first(
    dense: Scored, lexical: Scored, weight: float
) -> None:
    found = fuse(dense, lexical, weight=weight)
    assert sorted(found.chunks.tolist()) == sorted(
        {*dense.chunks.tolist(), *lexical.chunks.tolist()}
    )
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
