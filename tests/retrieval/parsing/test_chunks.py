"""Chunks: within their limit, at sentence or line ends, in order, and nothing is lost."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadloom.retrieval.parsing import Chunk, UnreadableFile
from threadloom.retrieval.parsing.chunks import chunks_of
from threadloom.retrieval.parsing.decoding import tidy
from threadloom.retrieval.parsing.sections import JOINT, Heading, Section
from threadloom.retrieval.parsing.words import within_character
from threadloom.retrieval.terms import pack_terms
from threadloom.tokens import CL100K_TOKENS
from threadloom.types.vector_stores import StaticChunking

PLENTY = 10**9
SENTENCES = [
    "The bee dances. ",
    "Does it know the way? ",
    'He said: "Yes!" ',
    "蜜蜂跳舞。",
    "它知道路吗\uff1f",
    "الماء بارد؟ ",
    "    return {'x': [1, 2.5e-3, None]}\n",
    "x",
    "=" * 300,
    "a" * 700,
    "\t" * 70,
    "\n",
    "\n\n",
    ".\n\n",
    " ",
    "1. ",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
    "e\u0301\u0302\u0303",
    "\U0001f44d\U0001f3fd ",
    "\u1100\u1161\u11a8",
    "\u200b",
    "<|endoftext|>",
    "https://example.com/" + "q/" * 60 + " ",
    "'s don't 'LL ",
]
texts = st.lists(st.sampled_from(SENTENCES) | st.text(max_size=30), max_size=60).map(
    lambda parts: tidy("".join(parts * 3))
)


@st.composite
def chunkings(draw: st.DrawFn) -> StaticChunking:
    size = draw(st.integers(100, 300))
    return StaticChunking(
        max_chunk_size_tokens=size, chunk_overlap_tokens=draw(st.integers(0, size // 2))
    )


def cut(text: str, chunking: StaticChunking) -> list[Chunk]:
    return [chunk for chunk, _ in chunks_of([Section(text)], chunking, PLENTY)]


@given(texts, chunkings())
@settings(max_examples=300, deadline=None)
def test_chunks_keep_their_limit_and_lose_nothing(text: str, chunking: StaticChunking) -> None:
    chunks = cut(text, chunking)
    covered = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert CL100K_TOKENS.count(chunk.text) <= chunking.max_chunk_size_tokens
        assert not text[covered : max(covered, chunk.start)].strip()
        covered = chunk.end
    assert not text[covered:].strip()
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(chunks))
    assert chunks == cut(text, chunking)


@given(texts, chunkings())
@settings(max_examples=100, deadline=None)
def test_chunks_overlap_by_no_more_than_was_asked_for(text: str, chunking: StaticChunking) -> None:
    for one, two in pairwise(cut(text, chunking)):
        shared = text[two.start : one.end]
        # The space before its first word may have been a part of that word's token.
        assert CL100K_TOKENS.count(shared) <= chunking.chunk_overlap_tokens + 8


@given(texts, chunkings())
@settings(max_examples=100, deadline=None)
def test_a_chunk_has_the_terms_of_its_text(text: str, chunking: StaticChunking) -> None:
    for chunk in cut(text, chunking):
        assert chunk.terms == pack_terms(chunk.text)


@given(texts, chunkings())
@settings(max_examples=100, deadline=None)
def test_no_chunk_ends_inside_a_character(text: str, chunking: StaticChunking) -> None:
    for chunk in cut(text, chunking):
        assert chunk.end == len(text) or text[chunk.end] == " " or calm(text, chunk.end)


def calm(text: str, at: int) -> bool:
    """Heaps of marks, which are no character of any script, may be cut."""
    marks = sum(unicodedata.category(c) in {"Mn", "Mc", "Me"} for c in text[at - 8 : at])
    return marks > 5 or not within_character(text, at)


def test_chunks_end_with_sentences() -> None:
    text = "".join(
        f"Number {n} is the bee that danced before all others did so. " for n in range(400)
    )
    chunks = cut(text, StaticChunking())
    assert len(chunks) > 5
    assert all(chunk.text.endswith(".") and chunk.text.startswith("Number") for chunk in chunks)
    shared = [CL100K_TOKENS.count(text[b.start : a.end]) for a, b in pairwise(chunks)]
    assert all(300 <= tokens <= 400 for tokens in shared)


def test_chunks_of_chinese_end_with_sentences() -> None:
    chunks = cut("蜜蜂在蜂房里跳舞\uff0c告诉其他蜜蜂花在哪里。" * 300, StaticChunking())
    assert len(chunks) > 5
    assert all(chunk.text.endswith("。") and chunk.text.startswith("蜜") for chunk in chunks)


def test_chunks_of_code_end_with_lines() -> None:
    lines = "".join(f"    value_{n} = compute(value_{n - 1}, {n})\n" for n in range(500))
    chunks = cut(lines, StaticChunking(max_chunk_size_tokens=200, chunk_overlap_tokens=0))
    assert "\n    ".join(chunk.text for chunk in chunks) == lines.strip()


def test_a_chunk_stays_on_its_page_and_knows_the_heading_above() -> None:
    sections = [
        Section("Bees dance.", 1, (Heading(0, "Bees"),), 0.4),
        Section("They show the way.\nWasps do not.", 2, (Heading(19, "Wasps"),), 0.6),
        Section("Nobody knows why.", 4, (), 1.0),
    ]
    found = [*chunks_of(sections, StaticChunking(), PLENTY)]
    text = JOINT.join(section.text for section in sections)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk, _ in found)
    assert [(chunk.page, chunk.heading) for chunk, _ in found] == [
        (1, "Bees"),
        (2, "Bees"),
        (4, "Wasps"),
    ]
    assert [round(progress, 6) for _, progress in found] == [0.4, 0.6, 1.0]


def test_a_text_with_too_many_tokens_fails() -> None:
    with pytest.raises(UnreadableFile, match="more than 1,000 tokens"):
        list(chunks_of([Section("one two three " * 400)], StaticChunking(), 1000))


def test_tokens_that_chunks_share_are_counted_once() -> None:
    text = "one two three four " * 250
    assert [*chunks_of([Section(text)], StaticChunking(), CL100K_TOKENS.count(text))]


@pytest.mark.parametrize("word", ["a", "中", "=", "\u0301", "ab1-", "\U0001f600"])
@pytest.mark.timeout(60)
def test_a_long_text_without_any_space_is_cut_in_linear_time(word: str) -> None:
    size = 2_000_000
    chunks = cut(word * (size // len(word)), StaticChunking(chunk_overlap_tokens=0))
    assert sum(len(chunk.text) for chunk in chunks) == size
