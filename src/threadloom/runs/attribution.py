"""Adds citations to answers of models that do not cite: where a sentence clearly rests on one passage, and nowhere else.

Words decide, so it errs on the side of silence. A sentence is attributed when one sentence of a passage has nearly
all of its words, weighted by how telling they are, in nearly the same order; all of its numbers and names; a negation only
if it has one, and no opposite of its words; and when no other file is nearly as good. What takes two sentences to support
is left alone: `A costs 10. B costs 20.` has every word of `A costs 20.`
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from math import log

from threadloom.llm.words import prose
from threadloom.retrieval.terms import STOP_TERMS, terms_of
from threadloom.runs.citations import Citer, Piece, Source, joined

COVERED = 0.85
"""Share of a sentence's words that the passage must have."""
IN_ORDER = 0.7
"""Share of its neighbouring words that stand in the same order there."""
MARGIN = 0.15
"""By how much the next best file must be worse."""
FEWEST_WORDS = 3
LONGEST_SENTENCE = 2_000
"""Characters; what is longer is a list or a table, and is left alone."""
LINE_BEGINNING = 80

ENDS = ".!?"
ENDS_WITHOUT_SPACE = "\u3002\uff01\uff1f"
CLOSING = "\"')]}*_\u201d\u2019\u00bb"
NO_PROSE = re.compile(r"\s*(?:\||#)")
FENCE = re.compile(r" {0,3}(?:```|~~~)")
WORD = re.compile(r"[^\W\d_]+")
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|without|cannot|nobody|nothing|hardly|unless|except"
    r"|nicht|kein\w*|nie|ohne)\b|n['\u2019]t\b|[\u4e0d\u6ca1\u6c92\u7121\u65e0\u672a]",
    re.IGNORECASE,
)
SPELLED = {
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
}
OPPOSITES = (
    ("increas", "decreas"),
    ("rise", "fall"),
    ("rose", "fell"),
    ("more", "less"),
    ("more", "fewer"),
    ("most", "least"),
    ("high", "low"),
    ("above", "below"),
    ("before", "after"),
    ("maxim", "minim"),
    ("includ", "exclud"),
    ("allow", "forbid"),
    ("always", "never"),
    ("open", "clos"),
    ("start", "end"),
    ("first", "last"),
)
STOP = frozenset(STOP_TERMS.tolist())


class Wording:
    """What is compared of a sentence; `terms` are its telling words in their order."""

    def __init__(self, text: str) -> None:
        self._text = THOUSANDS.sub("", text) if "," in text else text
        self.terms = [term for term in terms_of(self._text).tolist() if term not in STOP]

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(word.casefold() for word in WORD.findall(self._text))

    @property
    def names(self) -> set[str]:
        """Words with a capital letter, but the first: any sentence begins with one."""
        later = WORD.findall(self._text)[1:]
        return {word.casefold() for word in later if word[0].isupper() and word != "I"}

    @cached_property
    def numbers(self) -> set[str]:
        spelled = (SPELLED[word] for word in self.words & SPELLED.keys())
        return {*NUMBER.findall(self._text), *spelled}

    @cached_property
    def negated(self) -> bool:
        return NEGATION.search(self._text) is not None

    def agrees_with(self, other: "Wording") -> bool:
        """Whether nothing in this sentence speaks against its resting on the other."""
        return (
            self.numbers <= other.numbers
            and self.names <= other.words
            and self.negated == other.negated
            and not self._opposes(other)
            and self._order_in(other) >= IN_ORDER
        )

    def _opposes(self, other: "Wording") -> bool:
        return any(
            self.has(one) and not other.has(one) and other.has(opposite)
            for pair in OPPOSITES
            for one, opposite in (pair, pair[::-1])
        )

    def has(self, beginning: str) -> bool:
        return any(word.startswith(beginning) for word in self.words)

    def _order_in(self, other: "Wording") -> float:
        """The share of neighbouring words that the other has in the same order."""
        first, last = dict[int, int](), dict[int, int]()
        for at, term in enumerate(other.terms):
            first.setdefault(term, at)
            last[term] = at
        shared = [term for term in dict.fromkeys(self.terms) if term in first]
        pairs = [first[one] < last[following] for one, following in pairwise(shared)]
        return sum(pairs) / len(pairs) if pairs else 0.0


class Evidence:
    """The sentences of all passages, to find the one that a sentence rests on."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    @cached_property
    def _sentences(self) -> list[tuple[Source, Wording]]:
        """Read when they are first asked for: a model that cites by itself never asks."""
        return [
            (source, Wording(sentence))
            for source in self._sources
            for sentence in prose(source.text)
        ]

    @cached_property
    def _having(self) -> dict[int, list[int]]:
        """The sentences that have each word."""
        having = defaultdict[int, list[int]](list)
        for at, (_, wording) in enumerate(self._sentences):
            for term in set(wording.terms):
                having[term].append(at)
        return having

    def _weight(self, term: int) -> float:
        """How telling a word is: one that no passage has tells most."""
        return log(1 + len(self._sentences) / (1 + len(self._having.get(term, ()))))

    def of(self, sentence: str) -> Source | None:
        """The passage that the sentence clearly rests on, if there is one."""
        asked = Wording(sentence)
        terms = set(asked.terms)
        if len(terms) < FEWEST_WORDS or sentence.rstrip(CLOSING).endswith(("?", "\uff1f")):
            return None
        weights = {term: self._weight(term) for term in terms}
        total = sum(weights.values())
        shares = defaultdict[int, float](float)
        for term, weight in weights.items():
            for at in self._having.get(term, ()):
                shares[at] += weight / total
        return self._clear_winner(asked, shares)

    def _clear_winner(self, asked: Wording, shares: Mapping[int, float]) -> Source | None:
        best_of = dict[str, float]()
        for at, share in shares.items():
            file_id = self._sentences[at][0].file_id
            best_of[file_id] = max(best_of.get(file_id, 0.0), share)
        for at in sorted(shares, key=lambda at: (-shares[at], at)):
            source, wording = self._sentences[at]
            rivals = (share for file_id, share in best_of.items() if file_id != source.file_id)
            if shares[at] < COVERED or shares[at] - max(rivals, default=0.0) < MARGIN:
                return None
            if asked.agrees_with(wording):
                return source
        return None


class Attributor:
    """Reads an answer through a `Citer`; adds markers until the model has cited something itself."""

    def __init__(self, citer: Citer, evidence: Evidence) -> None:
        self._citer = citer
        self._evidence = evidence
        self._cites = False
        self._sentence = ""
        self._line = ""
        self._in_fence = False
        self._ended = False
        self._due: Source | None = None
        self._space = ""

    def feed(self, text: str) -> list[Piece]:
        """What can be passed on after this much more text."""
        return joined(self._attributed(self._citer.feed(text)))

    def finish(self) -> list[Piece]:
        """The rest, and the marker of the last sentence."""
        return joined([*self._attributed(self._citer.finish()), *self._finish()])

    def _attributed(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if piece.source and not self._cites:
                self._cites = True
                yield Piece(self._space)
            if self._cites:
                yield piece
            else:
                for character in piece.text:
                    yield from self._take(character)

    def _take(self, character: str) -> Iterator[Piece]:
        """A marker belongs right behind its sentence, but the model may write one there itself: spaces wait."""
        if self._due and character.isspace():
            self._space += character
        else:
            yield from self._settle()
            if character == "\n" or (self._ended and character.isspace()):
                self._close_sentence()
            if self._due:
                self._space = character
            else:
                yield Piece(character)
        self._note(character)

    def _note(self, character: str) -> None:
        """Where the text stands now."""
        if character == "\n":
            self._in_fence ^= FENCE.match(self._line) is not None
            self._line = self._sentence = ""
        else:
            # What is longer is not looked at: a text without ends shall not cost its square.
            self._line += character if len(self._line) < LINE_BEGINNING else ""
            self._sentence += character if len(self._sentence) < LONGEST_SENTENCE else ""
        self._ended = character in ENDS or (self._ended and character in CLOSING)
        if character in ENDS_WITHOUT_SPACE:
            self._close_sentence()

    def _close_sentence(self) -> None:
        prose = not (self._in_fence or NO_PROSE.match(self._line))
        short = len(self._sentence) < LONGEST_SENTENCE
        self._due = self._evidence.of(self._sentence) if prose and short else None
        self._sentence = ""

    def _settle(self) -> Iterator[Piece]:
        """The marker that was due, and the spaces that waited behind it."""
        if self._due:
            yield Piece(self._due.marker, self._due)
            yield Piece(self._space)
        self._due, self._space = None, ""

    def _finish(self) -> Iterator[Piece]:
        if not self._cites:
            if not self._due:
                self._close_sentence()
            yield from self._settle()
