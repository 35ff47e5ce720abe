"""Sections to chunks: whole sentences or lines where that is possible, and never more tokens than asked for."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from threadloom.retrieval.parsing import Chunk
from threadloom.retrieval.parsing.sections import JOINT, Heading, Section, invalid
from threadloom.retrieval.parsing.words import WIDE_SENTENCE, Words, words_of
from threadloom.retrieval.terms import Terms, packed, terms_of
from threadloom.types.vector_stores import StaticChunking

# More characters than the largest chunk can have.
WINDOW = 600_000
GAP = 70
# With the ellipsis, and the full stops of Arabic, Armenian and Hindi.
STOPS = ".!?\u2026\u061f\u06d4\u0589\u0964"
CLOSERS = "\"'\u201d\u2019\xbb)\\]"
# Each branch begins with a set of characters, which makes the search fast. The number of a list's item ends no sentence.
SENTENCE = re.compile(
    rf"[{STOPS}]+(?<!\n\d.)(?<!\n\d\d.)[{CLOSERS}]*(?=\s+[^\sa-z])|{WIDE_SENTENCE.pattern}|\n(?=\n)"
)
LINE = re.compile(r"\n")


@dataclass(frozen=True)
class Span:
    """A chunk's place in its section, and how many of its tokens are not in the one before."""

    start: int
    end: int
    tokens: int


def chunks_of(
    sections: Iterable[Section], chunking: StaticChunking, max_tokens: int
) -> Iterator[tuple[Chunk, float]]:
    """All chunks in order, each with how far through the document it reaches."""
    base, reached, tokens = 0, 0.0, 0
    heading: Heading | None = None
    for section in sections:
        for span, terms in with_terms(section.text, spans(section.text, chunking)):
            tokens += span.tokens
            if tokens > max_tokens:
                raise too_many(max_tokens)
            heading = heading_at(section, span.start) or heading
            share = (section.reach - reached) * span.end / len(section.text)
            yield chunk(section, span, base, heading, terms), reached + share
        heading = section.headings[-1] if section.headings else heading
        base += len(section.text) + len(JOINT)
        reached = section.reach


def chunk(section: Section, span: Span, base: int, heading: Heading | None, terms: Terms) -> Chunk:
    return Chunk(
        text=section.text[span.start : span.end],
        start=base + span.start,
        end=base + span.end,
        page=section.page,
        heading=heading.title if heading else None,
        terms=packed(terms),
    )


def with_terms(text: str, cut: Iterable[Span]) -> Iterator[tuple[Span, Terms]]:
    """Each chunk's place with its terms; the words that two chunks share are read once."""
    shared: Terms | None = None
    read = 0
    for span, following in pairwise(chain(cut, [None])):
        assert span is not None, "only what follows the last is none"
        parts = [] if shared is None else [shared]
        start = span.start if shared is None else read
        shared = None
        if following is not None and start <= following.start and apart(text, following, span):
            parts.append(terms_of(text[start : following.start]))
            shared, read = terms_of(text[following.start : span.end]), span.end
            parts.append(shared)
        else:
            parts.append(terms_of(text[start : span.end]))
        yield span, np.concatenate(parts)


def apart(text: str, following: Span, span: Span) -> bool:
    """Whether there is space at both ends of what the two share, so that no word is cut."""
    return (
        following.start < span.end
        and text[following.start - 1].isspace()
        and text[span.end : span.end + 1].isspace()
    )


def heading_at(section: Section, position: int) -> Heading | None:
    """The last heading of the section that does not stand after `position`."""
    above = bisect_right(section.headings, position, key=lambda heading: heading.at)
    return section.headings[above - 1] if above else None


def spans(text: str, chunking: StaticChunking) -> Iterator[Span]:
    """Where the chunks of one section begin and end."""
    start, done = 0, 0
    while start < len(text):
        words = words_of(text, start, start + WINDOW)
        last_window = start + WINDOW >= len(text)
        first = 0
        while first < len(words):
            end = end_of_chunk(words, first, chunking.max_chunk_size_tokens)
            if end == len(words) and first > 0 and not last_window:
                break
            if words.starts[end] <= done:
                first = words.at(done)  # the next word is too long to follow the overlap
                continue
            begin, stop = words.span(first, end)
            if begin < stop:
                seen = max(first, words.at(done))
                yield Span(begin, stop, words.totals[end] - words.totals[seen])
            done = words.starts[end]
            if end == len(words):
                break
            first = max(first + 1, next_start(words, end, chunking.chunk_overlap_tokens))
        if last_window:
            return
        start = words.starts[first]


def end_of_chunk(words: Words, first: int, tokens: int) -> int:
    """The end of the chunk that begins with word `first`: in its last quarter, at a sentence's or line's end if there is one."""
    room = tokens
    while True:
        end = fitting = words.fitting(first, room)
        if fitting < len(words):
            least = words.fitting(first, room * 3 // 4)
            end = (breaks(words, least, fitting) or [fitting])[-1]
        over = words.tokens(first, end) - tokens
        if over <= 0 or end == first + 1:
            return end
        room -= over  # without the space before it, a chunk's first word may have more tokens


def next_start(words: Words, end: int, overlap: int) -> int:
    """The first word of the next chunk: up to `overlap` tokens back, at a sentence's or line's beginning if one is near."""
    first = words.last(end, overlap)
    latest = words.last(end, overlap * 3 // 4)
    return (breaks(words, first, latest) or [first])[0]


def breaks(words: Words, first: int, last: int) -> list[int]:
    """The words from `first` to `last` that begin a sentence, or else a line."""
    if first >= last:
        return []
    start, stop = words.starts[first], words.starts[last]
    for pattern in (SENTENCE, LINE):
        ends = [end_of(match) for match in pattern.finditer(words.text, start, stop + GAP)]
        found = [words.at(end) for end in ends if end <= stop and begins_word(words, end)]
        if found:
            return found
    return []


def end_of(match: re.Match[str]) -> int:
    """Before a line end, but after a full stop."""
    return match.start() if match[0] == "\n" else match.end()


def begins_word(words: Words, position: int) -> bool:
    """Whether nothing but space is left of the word in which `position` lies."""
    return not words.text[position : words.starts[words.at(position)]].strip()


def too_many(max_tokens: int) -> Exception:
    return invalid(f"it has more than {max_tokens:,} tokens. Split it into smaller files.")
