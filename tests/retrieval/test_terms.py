"""What words a text is found by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.retrieval.terms import WORD, Hashes, pack_terms, query_terms, split, unpack_terms


def words(text: str) -> list[str]:
    return [part for word in WORD.findall(text) for part in split(word)]


def finds(query: str, passage: str) -> bool:
    """Whether every word of the question is in the passage."""
    return bool(np.isin(query_terms(query), unpack_terms(pack_terms(passage))[0]).all())


@pytest.mark.parametrize(
    ("query", "passage"),
    [
        ("running shoes", "Shoes that run."),
        ("STRASSE", "Die Straße ist gesperrt."),
        ("café", "We met at the CAFE\u0301."),
        ("ﬁle", "One file."),
        ("max results", "Set max_num_results to 20."),
        ("maxNumResults", "Set maxNumResults to 20."),
        ("http server", "class HTTPServer:"),
        ("__init__", "def __init__(self):"),
        ("42", "The answer is 42."),
        ("x86_64", "Built for x86_64 only."),
        ("Größe", "Die größe des Hauses"),
        ("東京", "私は東京に住んでいます。"),
        ("서울", "서울에서 만나요."),
        ("हिन्दी", "यह हिन्दी है।"),
        ("سلام", "سلام دنیا"),
    ],
)
def test_a_word_is_found_in_its_other_forms(query: str, passage: str) -> None:
    assert finds(query, passage)


@pytest.mark.parametrize(
    ("query", "passage"),
    [("東京", "京東は会社です。"), ("car", "scar"), ("num", "number"), ("art", "part")],
)
def test_what_only_looks_alike_is_not_found(query: str, passage: str) -> None:
    assert not finds(query, passage)


def test_identifiers_are_kept_whole_and_in_parts() -> None:
    assert words("maxNumResults") == ["maxnumresult", "max", "num", "result"]
    assert words("snake_case_name") == ["snake_case_nam", "snake", "case", "name"]
    assert words("iPhone15") == ["iphone15"]


def test_scripts_without_spaces_are_cut_into_pairs() -> None:
    assert words("東京タワーabc") == ["東京", "京タ", "タワ", "ワー", "abc"]
    assert words("木") == ["木"]


def test_common_words_of_a_question_are_left_out() -> None:
    assert query_terms("What is the capital of France?").size == 2


def test_a_question_of_common_words_keeps_them() -> None:
    assert query_terms("Who are you?").size == 3


@pytest.mark.parametrize("text", ["", " \n", "?!", "🙂"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert pack_terms(text) == b""
    assert query_terms(text).size == 0


def test_packed_terms_are_sorted_and_counted() -> None:
    found, counts = unpack_terms(pack_terms("one two two three three three"))
    assert found.tolist() == sorted(found.tolist())
    assert sorted(counts.tolist()) == [1, 2, 3]
    assert (found.dtype, counts.dtype) == (np.uint32, np.uint16)


def test_a_word_counts_65535_times_at_most() -> None:
    assert unpack_terms(pack_terms("no " * 70_000))[1].tolist() == [65_535]


def test_words_that_were_met_before_are_forgotten_when_there_are_too_many() -> None:
    hashes = Hashes(2)
    first = hashes["one"], hashes["two"], hashes["three"]
    assert len(hashes) == 1
    assert first == (hashes["one"], hashes["two"], hashes["three"])


@given(st.text(max_size=200))
def test_any_text_finds_itself(text: str) -> None:
    found, counts = unpack_terms(pack_terms(text))
    assert (np.diff(found.astype(np.int64)) > 0).all()
    assert counts.all()
    assert np.isin(query_terms(text), found).all()
