"""Text is made plain before it is cut and stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.retrieval.parsing.decoding import is_blank, tidy


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("a\r\nb\rc\vd\fe", "a\nb\nc\nd\ne"),
        ("a\u2028b\x85c", "a\nb\nc"),
        ("a\0b\x1b[0mc\ufeff", "ab[0mc"),
        ("a\ud800b", "a\ufffdb"),
        ("a  \t\nb \n", "a\nb\n"),
        ("a" + " \t" * 500 + "b", "a b"),
        ("a" + "\xa0" * 500 + "b", "a b"),
        ("a" + "\n" * 500 + "b", "a\n\n\nb"),
        ("a\n\n\n    b\tc", "a\n\n\n    b\tc"),
        ("Grüße\u200d, \U0001f44d", "Grüße\u200d, \U0001f44d"),
    ],
)
def test_text_is_made_plain(raw: str, plain: str) -> None:
    assert tidy(raw) == plain


@given(st.text(st.characters() | st.sampled_from(" \t\n\r\0\ud800\xa0\u2028"), max_size=300))
def test_plain_text_can_be_stored_and_stays_as_it_is(raw: str) -> None:
    text = tidy(raw)
    text.encode()
    assert "\0" not in text
    assert tidy(text) == text


def test_what_nobody_can_see_is_blank() -> None:
    assert is_blank(" \n\t\u200b\ufeff\u202e\xad")
    assert not is_blank("\u200b.")
