"""BM25 over packed terms."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.retrieval.lexical import K1, B, Postings, bm25
from threadloom.retrieval.terms import pack_terms, query_terms, unpack_terms

PASSAGES = (
    "Cats chase mice.",
    "Dogs chase cats, and cats chase mice at night.",
    "The night train to Naxos does not exist.",
    "Mice, mice, mice.",
    "",
)
TEXTS = st.lists(
    st.sampled_from(["ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen"]), max_size=9
).map(" ".join)


def segment(texts: Sequence[str]) -> Postings:
    return Postings.build([pack_terms(text) for text in texts])


def scores(query: str, *segments: Postings) -> list[float]:
    found = bm25(segments, query_terms(query), [None] * len(segments))
    return np.concatenate(found).tolist()


def by_hand(query: str, texts: Sequence[str]) -> list[float]:
    """The textbook's formula, divided by the highest score possible."""
    documents = [
        Counter(dict(zip(*map(np.ndarray.tolist, unpack_terms(pack_terms(text))), strict=True)))
        for text in texts
    ]
    mean = sum(document.total() for document in documents) / max(1, len(documents)) or 1.0
    rarity: dict[int, float] = {}
    for term in query_terms(query).tolist():
        having = sum(term in document for document in documents)
        rarity[term] = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
    highest = sum(rarity.values()) * (K1 + 1) or 1.0
    return [
        sum(
            weight * (K1 + 1) * count / (count + K1 * (1 - B + B * document.total() / mean))
            for term, weight in rarity.items()
            if (count := document[term])
        )
        / highest
        for document in documents
    ]


def test_scores_are_those_of_the_formula() -> None:
    query = "Do cats chase mice at night?"
    assert scores(query, segment(PASSAGES)) == pytest.approx(by_hand(query, PASSAGES), abs=1e-6)


@given(st.lists(TEXTS, max_size=12), TEXTS, st.integers(0, 12))
def test_segments_and_removed_documents_do_not_change_a_score(
    texts: list[str], query: str, cut: int
) -> None:
    parts = [[*texts[:cut], "gnu cow ant"], [*texts[cut:], "cow cow"]]
    alive = [np.array([True] * (len(part) - 1) + [False]) for part in parts]
    found = bm25([segment(part) for part in parts], query_terms(query), alive)
    assert [float(part[-1]) for part in found] == [0, 0]
    kept = np.concatenate([part[:-1] for part in found])
    assert kept.tolist() == pytest.approx(by_hand(query, texts), abs=1e-5)


@given(st.lists(TEXTS, max_size=12), TEXTS)
def test_scores_are_between_0_and_1(texts: list[str], query: str) -> None:
    found = np.array(scores(query, segment(texts)))
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()


def test_a_passage_with_a_rare_word_is_before_one_with_a_common_word() -> None:
    found = scores("mice Naxos", segment(PASSAGES))
    assert int(np.argmax(found)) == 2


def test_a_word_that_no_passage_has_lowers_every_score() -> None:
    common, with_unknown = (
        scores(query, segment(PASSAGES))[0] for query in ("mice", "mice xylophone")
    )
    assert 0 < with_unknown < common


@pytest.mark.parametrize("query", ["", "xylophone"])
def test_a_question_without_known_words_finds_nothing(query: str) -> None:
    assert scores(query, segment(PASSAGES)) == [0] * len(PASSAGES)


def test_an_empty_store_has_no_scores() -> None:
    assert bm25([], query_terms("mice"), []) == []
    assert scores("mice", segment([])) == []


def test_a_segment_survives_being_kept_as_arrays() -> None:
    made = segment(PASSAGES)
    again = Postings.from_arrays(made.arrays())
    assert scores("cats at night", again) == scores("cats at night", made)


def test_a_word_counts_255_times_at_most_but_its_text_keeps_its_length() -> None:
    made = segment(["no " * 300])
    assert made.counts.tolist() == [255]
    assert made.lengths.tolist() == [300]
