"""A text as words with their tokens: what chunks are cut from.

Tokens are counted word by word, each different word once. That is exact: cl100k_base's pattern never joins what stands
before a space to what comes after it, nor a letter to a line end. Only what has too many tokens without a space is cut
elsewhere, and what holds such a cut is counted as a whole.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from threadloom.tokens import CL100K_TOKENS

# Punctuation takes the line ends that follow it into its token; everything else leaves them to the next word.
WORD = re.compile(r"\s*\S{1,256}(?:(?<![^\W_])\n+)?")
WORD_LENGTH = 256
WORD_TOKENS = 64
# No character has more tokens than bytes, so that a piece always fits the smallest chunk.
PIECE = 16
LONGEST_PIECE = 24
ASCII_PIECE = 64
# Where code and data without spaces may be cut.
DELIMITERS = re.compile(r".*[,;)}\]>&|/]", re.DOTALL)
# Full stops of scripts without spaces, and the brackets and quotation marks that close after them.
WIDE_STOPS = "\u3002\uff01\uff1f\uff61\uff0e"
WIDE_CLOSERS = "\u300d\u300f\u201d\u2019\uff09"
WIDE_SENTENCE = re.compile(f"[{WIDE_STOPS}]+[{WIDE_CLOSERS}]*")
ZERO_WIDTH_JOINER = "\u200d"
MEMO = 200_000


class Counts(dict[str, int]):
    """The tokens of each word met so far."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MEMO:
            self.clear()
        count = self[word] = CL100K_TOKENS.count(word)
        return count


COUNTS = Counts()


@dataclass(frozen=True)
class Words:
    """Words of `text`, each with the space before it: word `i` is `text[starts[i]:starts[i + 1]]`.

    `totals[i]` are the tokens of all words before `i`; `splits` are the words that begin inside a longer one.
    """

    text: str
    starts: list[int]
    totals: list[int]
    splits: list[int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def at(self, position: int) -> int:
        """The first word that does not begin before `position`."""
        return bisect_left(self.starts, position)

    def fitting(self, first: int, tokens: int) -> int:
        """The end of the most words from `first` on that have no more than `tokens`; at least one."""
        return max(first + 1, bisect_right(self.totals, self.totals[first] + tokens) - 1)

    def last(self, end: int, tokens: int) -> int:
        """The first of the most words before `end` that have no more than `tokens`."""
        return bisect_left(self.totals, self.totals[end] - tokens)

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Where the words from `first` to `end` stand, without the space around them."""
        text = self.text[self.starts[first] : self.starts[end]]
        return (
            self.starts[end] - len(text.lstrip()),
            self.starts[first] + len(text.rstrip()),
        )

    def tokens(self, first: int, end: int) -> int:
        """What tiktoken counts for these words without the space around them."""
        if bisect_right(self.splits, first) != bisect_left(self.splits, end):
            start, stop = self.span(first, end)
            return CL100K_TOKENS.count(self.text[start:stop])
        head, tail = self._word(first), self._word(end - 1)
        if end - first == 1:
            return COUNTS[head.strip()]
        inner = self.totals[end - 1] - self.totals[first + 1]
        return COUNTS[head.lstrip()] + inner + COUNTS[tail.rstrip()]

    def _word(self, index: int) -> str:
        return self.text[self.starts[index] : self.starts[index + 1]]


def words_of(text: str, start: int, end: int) -> Words:
    """The words of `text[start:end]`."""
    words: list[str] = WORD.findall(text, start, end)
    counts = [*map(COUNTS.__getitem__, words)]
    lengths = [*map(len, words)]
    splits: list[int] = []
    if max(counts, default=0) > WORD_TOKENS or max(lengths, default=0) >= WORD_LENGTH:
        sizes = enumerate(zip(counts, lengths, strict=True))
        long = [i for i, (n, m) in sizes if n > WORD_TOKENS or m >= WORD_LENGTH]
        words, splits = split_words(words, long)
        counts = [*map(COUNTS.__getitem__, words)]
        lengths = [*map(len, words)]
    starts = [*accumulate(lengths, initial=start)]
    return Words(text, starts, [*accumulate(counts, initial=0)], splits)


def split_words(words: list[str], long: list[int]) -> tuple[list[str], list[int]]:
    """`words` with the long ones in pieces, and which of them begin inside a word."""
    split: list[str] = []
    splits: list[int] = []
    done = 0
    for index in long:
        if index >= done:
            split += words[done:index]
            done = end_of_run(words, index)
            parts = [*pieces("".join(words[index:done]))]
            splits += range(len(split) + 1, len(split) + len(parts))
            split += parts
    return split + words[done:], splits


def end_of_run(words: list[str], index: int) -> int:
    """After the words that go on, without space, with what begins at `index`: they were cut for their length."""
    end = index + 1
    while end < len(words) and not (words[end][0].isspace() or words[end - 1].endswith("\n")):
        end += 1
    return end


def pieces(word: str) -> Iterator[str]:
    """A word that is too long, cut between characters and, where there are any, after sentences or delimiters."""
    start = 0
    while start < len(word):
        end = cut_ascii(word, start) or cut(word, start)
        yield word[start:end]
        start = end


def cut_ascii(word: str, start: int) -> int | None:
    """Where the piece that begins at `start` may end, if it has no other characters."""
    piece = word[start : start + ASCII_PIECE + 1]
    if not piece.isascii():
        return None
    if len(piece) <= ASCII_PIECE:
        return len(word)
    delimited = DELIMITERS.match(piece, 0, ASCII_PIECE)
    return start + (delimited.end() if delimited else ASCII_PIECE)


def cut(word: str, start: int) -> int:
    """Where the piece that begins at `start` may end."""
    limit = start + PIECE
    if limit >= len(word):
        return len(word)
    sentences = [match.end() for match in WIDE_SENTENCE.finditer(word, start, limit)]
    if sentences:
        return sentences[-1]
    before = range(limit, start, -1)
    after = range(limit + 1, min(start + LONGEST_PIECE, len(word)) + 1)
    # A heap of marks longer than any piece is no character that a reader could tell apart: it is cut anywhere.
    return next((at for at in (*before, *after) if not within_character(word, at)), limit)


def within_character(text: str, at: int) -> bool:
    """Whether `text[:at]` would end inside what a reader sees as one character."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    return (
        unicodedata.category(after) in {"Mn", "Mc", "Me"}
        or ZERO_WIDTH_JOINER in {before, after}
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\U000e0020" <= after <= "\U000e007f"
        or "\u1160" <= after <= "\u11ff"  # a Hangul vowel or final, written apart
        or ("\u1100" <= before <= "\u115f" and "\u1100" <= after <= "\u115f")
        or (is_flag_letter(before) and is_flag_letter(after) and flag_letters(text, at) % 2 == 1)
    )


def is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def flag_letters(text: str, at: int) -> int:
    """How many of the letters that make flags stand directly before `at`."""
    count = 0
    while count < at and is_flag_letter(text[at - 1 - count]):
        count += 1
    return count
