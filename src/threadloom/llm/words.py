"""Words, as the embedded model compares them: stems without the words that every sentence has."""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "s", "y", "e")
SHORTEST_STEM = 3

COMMON_WORDS = """
a about all also am an and any are as at be been but by can could did do does for from give had
has have he her here him his how i i'd i'll i'm i've if in into is it it'll it's its just let like
may me my need no not of on or our out please she should so some tell than that that's the their
them then there these they this those to too today up us use user using want was we were what
what's when where which who whom whose why will with would you your
"""
STOP_WORDS = frozenset(COMMON_WORDS.split())
# Verbs that many functions share say nothing about which one is meant.
COMMON_VERBS = frozenset(
    "call check create do fetch find get list look make return run set show".split()  # noqa: SIM905 - reads as words
)
SYNONYMS = (
    ("weather", "temperature", "forecast"),
    ("probability", "likelihood", "chance"),
    ("mail", "email"),
    ("price", "cost"),
    ("weight", "weigh", "heavy"),
    ("height", "high", "tall"),
    ("add", "sum", "plus"),
)


@lru_cache(10_000)
def stem(word: str) -> str:
    """The word without its ending; crude, the same for both sides of a comparison."""
    lowered = word.lower()
    for ending in ENDINGS:
        if lowered.endswith(ending) and len(lowered) - len(ending) >= SHORTEST_STEM:
            return lowered[: -len(ending)]
    return lowered


SHARED_STEMS = {stem(word): stem(group[0]) for group in SYNONYMS for word in group}


def content_stems(text: str) -> set[str]:
    """The stems that carry meaning; `getWeather` and `get_weather` are two words."""
    words = WORD.findall(CAMEL.sub(" ", text).replace("_", " "))
    stems = (stem(word) for word in words if word.lower() not in STOP_WORDS)
    return {SHARED_STEMS.get(found, found) for found in stems}


def topic_stems(text: str) -> set[str]:
    """The content stems without the verbs that many functions share."""
    return content_stems(text) - {stem(verb) for verb in COMMON_VERBS}


def sentences(text: str) -> list[str]:
    return [found.strip() for found in SENTENCE.findall(text) if found.strip()]


def key_phrase(text: str, known: set[str]) -> str:
    """What is left of a request without its first and last words that are common or `known`."""
    words = list(WORD.finditer(text))
    telling = [
        word for word in words if word[0].lower() not in STOP_WORDS and stem(word[0]) not in known
    ]
    if not telling:
        return text.strip()
    return text[telling[0].start() : telling[-1].end()]


# Pages of a book break lines within sentences; lists do so between items.
WRAPPED = re.compile(r"(?<=[^\n]{40})\n(?=[ \t]*(?:[a-z\u00df-\u00ff]|\d+(?![.)\d])))")
END_OF_SENTENCE = re.compile(
    r"(?<=[.!?])\s+|(?<=[.!?][\"')\u201d\u2019])\s+|(?<=[\u3002\uff01\uff1f])|\n+"
)


def prose(text: str) -> list[str]:
    """The sentences of a document, and the lines of its lists; `3.5` and a line that goes on are no ends."""
    found = END_OF_SENTENCE.split(WRAPPED.sub(" ", text))
    return [sentence.strip() for sentence in found if sentence.strip()]
