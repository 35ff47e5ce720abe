"""How the embedded model uses file search: what it looks for, and which sentences of the passages it quotes.

Words decide. A sentence is worth the share of the question's words that it has, weighted by how telling each is among the
passages; those of its heading count as its own, and those of the sentence before by half. Below `ENOUGH` the documents do not answer.
`tests/llm/test_embedded_file_search.py` measures what that keeps and what it refuses.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import orjson

from threadloom.llm.words import content_stems, prose, stem
from threadloom.types.citations import Passage, fenced

FILE_SEARCH = "file_search"
NOTHING = "I found nothing in the documents that answers this: "
MOST_SENTENCES = 3
LONGEST_SENTENCE = 500
LONGEST_QUERY = 2_000
ENOUGH = 0.65
ALSO = 0.85
"""A further sentence is quoted when it is worth this much of the best one."""
NEARBY = 0.5
FEW_WORDS = 3

SMALL_TALK_WORDS = """
hi hello hey there thank thanks ok okay bye goodbye good morning afternoon evening night nice great cool yes no yeah please
welcome perfect awesome joke sorry lol fine well going doing today again test testing
"""
SMALL_TALK = frozenset(map(stem, SMALL_TALK_WORDS.split()))
ASKING_WORDS = """
document file text say says said according mention explain describe summarise summarize find list show give know look search
tell question answer many much long often far old there name one kind information detail take place get use happen need
"""
ASKING = frozenset(map(stem, ASKING_WORDS.split()))
ASKING_CHARACTERS = frozenset("哪谁誰几幾吗嗎何么麼怎")
STATEMENT = re.compile(
    r"\s*(?:i|i'm|i\u2019m|my|we|our|here)\b(?!.*(?:want|need|like|wonder|look))", re.IGNORECASE
)
POINTING = r"\b(?:it|its|they|them|their|this|that|these|those|he|him|his|she|her|hers)\b"
POINTS_BACK = re.compile(POINTING, re.IGNORECASE)
LEANING = re.compile(
    r"^\s*(?:and|but|also|so|or|what about|how about|why|which one|how so|more)\b|" + POINTING,
    re.IGNORECASE,
)
WANTS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|old|far|often|big|tall|high|heavy|large)\b|\bwhen\b"
    r"|\b(?:year|date|percent\w*|number|price|cost)\b",
    re.IGNORECASE,
)
HAS_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|hundred|thousand|million|once|twice|daily|half"
    r"|first|second|third|fourth|fifth|last|\w+ly|january|february|march|april|may|june|july|august|\w+(?:tem|o|em)ber"
    r"|\w+days?|always|never|no)\b",
    re.IGNORECASE,
)
DECIMAL = re.compile(r"\d+(?:[.,]\d+)+")
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True)
class Question:
    """A question; `context` is the user's message before it, if it may lean on that."""

    text: str
    context: str = ""

    @classmethod
    def of(cls, text: str, earlier: Sequence[str]) -> "Question":
        words = len(terms_of(text))
        leans = words <= 1 or (words <= FEW_WORDS and LEANING.search(text) is not None)
        return cls(text, earlier[-1] if earlier and leans else "")

    @property
    def whole(self) -> str:
        return f"{self.context} {self.text}".strip()

    @property
    def readings(self) -> list["Question"]:
        """What may be meant, likeliest first: with its context, or without."""
        alone, words = Question(self.text), len(terms_of(self.text))
        if not self.context:
            return [self]
        if POINTS_BACK.search(self.text):
            return [self, alone] if words > 1 else [self]
        return [alone, self] if words else [self]


@dataclass(frozen=True)
class Quote:
    """A sentence, the marker of its passage, and what it is worth as an answer: by itself, and where it stands."""

    text: str
    marker: str
    own: float
    worth: float


def seeks(text: str, earlier: Sequence[str]) -> bool:
    """Whether a message asks for something that documents may know: no small talk, no statement about oneself."""
    asks = "?" in text or "\uff1f" in text
    if content_stems(text) - SMALL_TALK:
        return asks or not STATEMENT.match(text)
    return asks and bool(earlier) and LEANING.search(text) is not None


def arguments_for(question: Question) -> str:
    """The arguments of a search for the question."""
    queries = [reading.whole[:LONGEST_QUERY] for reading in question.readings]
    return orjson.dumps({"queries": queries}).decode()


def answer(question: Question, heard: Iterable[str]) -> str:
    """The best sentences of the passages with their markers, or that there are none."""
    passages = [passage for text in heard for passage in fenced(text)]
    quotes = likeliest_quotes(question, passages)
    if not quotes:
        return f"{NOTHING}“{question.text[:LONGEST_SENTENCE]}”"
    return " ".join(quote.text + quote.marker for quote in quotes)


def likeliest_quotes(question: Question, passages: Sequence[Passage]) -> list[Quote]:
    """Those of the first reading that has any; if others share some of them, only these."""
    found = [best_quotes(reading, passages) for reading in question.readings]
    first, *others = [quotes for quotes in found if quotes] or [[]]
    shared = {quote.text for quotes in others for quote in quotes}
    return [quote for quote in first if quote.text in shared] or first


def best_quotes(question: Question, passages: Sequence[Passage]) -> list[Quote]:
    """The best sentence and others nearly as good, if it is good enough; each text once."""
    found = [quote for quote in quotes_of(question, passages) if quote.worth >= ENOUGH]
    found.sort(key=lambda quote: (-quote.worth, -quote.own))
    distinct = dict[str, Quote]()
    for quote in found:
        distinct.setdefault(quote.text, quote)
    return [
        quote
        for quote in distinct.values()
        if quote.worth >= ALSO * found[0].worth and quote.own >= ALSO * found[0].own
    ][:MOST_SENTENCES]


def quotes_of(question: Question, passages: Sequence[Passage]) -> Iterator[Quote]:
    """Every sentence of the passages that has something of the question itself."""
    split = [
        (passage, [(text, terms_of(text)) for text in prose(passage.text)]) for passage in passages
    ]
    weights = weigh(question, [terms for _, sentences in split for _, terms in sentences])
    asked = terms_of(question.text) or weights.keys()
    total = sum(weights.values())
    for passage, sentences in split:
        heading = terms_of(passage.heading)
        before = set[str]()
        for text, own in sentences:
            # A heading speaks for all that stands below it, the sentence before only for some of it.
            said = sum(weights[term] for term in own & weights.keys())
            above = sum(weights[term] for term in (heading - own) & weights.keys())
            near = sum(weights[term] for term in (before - own - heading) & weights.keys())
            if (own | heading) & asked and said and fits(question.text, text):
                worth = (said + above + NEARBY * near) / total
                yield Quote(text[:LONGEST_SENTENCE], passage.marker, said / total, worth)
            before = own


def fits(question: str, text: str) -> bool:
    """A question is no answer, and one for a number wants one."""
    if text.endswith(("?", "\uff1f")):
        return False
    return not WANTS_NUMBER.search(question) or HAS_NUMBER.search(text) is not None


def weigh(question: Question, sentences: Sequence[set[str]]) -> dict[str, float]:
    """How telling each word of the question is: what few sentences have tells much, its context half as much."""
    asked, context = terms_of(question.text), terms_of(question.context)
    having = Counter(term for terms in sentences for term in terms & (asked | context))
    rarity = {term: log(1 + len(sentences) / (1 + having[term])) for term in asked | context}
    return {term: rare if term in asked else NEARBY * rare for term, rare in rarity.items()}


def terms_of(text: str) -> set[str]:
    """Stems, decimals, and pairs of characters of scripts without spaces."""
    runs = UNSPACED.findall(text)
    pairs = {run[at : at + 2] for run in runs for at in range(max(len(run) - 1, 1))}
    pairs = {pair for pair in pairs if ASKING_CHARACTERS.isdisjoint(pair)}
    decimals = DECIMAL.findall(text)
    words = DECIMAL.sub(" ", UNSPACED.sub(" ", text))
    return (content_stems(words) - ASKING) | pairs | set(decimals)
