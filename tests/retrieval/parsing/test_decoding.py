"""Text is made plain before it is cut and stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.retrieval.parsing.decoding import decode, is_blank, tidy
from threadloom.retrieval.parsing.sections import UnreadableFile

ENGLISH = "The bees dance in circles and in eights. "


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


@pytest.mark.parametrize(
    "text",
    [
        "Der Preis beträgt zehn Euro.",
        "café camel",
        "Größe und Höhe",
        "Señor Muñoz vive à Genève, naïf.",
        ENGLISH * 200 + "It\u2019s \u201cfine\u201d." + ENGLISH * 2000,
        (ENGLISH * 20 + "It\u2019s fine \u2013 \u20ac 5. ") * 50,
    ],
)
def test_a_few_accents_in_a_text_that_is_not_utf_8_are_western(text: str) -> None:
    assert decode(text.encode("cp1252")) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [("Köln, Grüße. ", "End."), ("Köln. " + ENGLISH * 2000, ENGLISH), ("", "東京 " * 9)],
)
def test_a_broken_byte_in_utf_8_costs_one_character(before: str, after: str) -> None:
    assert decode(before.encode() + b"\xff" + after.encode()) == f"{before}\ufffd{after}"


@pytest.mark.parametrize("text", ["Пчёлы танцуют", ENGLISH * 20 + "Пчёлы танцуют по кругу"])
def test_words_of_another_alphabet_are_not_western(text: str) -> None:
    assert decode(text.encode("cp1251")) == text


def test_what_only_begins_like_utf_16_is_no_text() -> None:
    with pytest.raises(UnreadableFile, match="not a text file"):
        decode(b"\xff\xfe\xfa\x00\x01")


def test_a_stray_byte_at_the_end_of_utf_16_costs_one_character() -> None:
    assert decode(ENGLISH.encode("utf-16") + b"\n") == f"{ENGLISH}\ufffd"
