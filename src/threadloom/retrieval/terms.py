"""What words a text is found by: the same for passages and for queries, packed for storage.

A term is the CRC-32 of a stemmed word: 32 bits keep an index small, and of a million different words one in four thousand
shares its number with another, which costs a query next to nothing.
"""

import re
import unicodedata
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from Stemmer import Stemmer  # pyright: ignore[reportUnknownVariableType]

Terms = NDArray[np.uint32]

# The marks that Python does not count as parts of words, although they are: accents, Hebrew and Arabic points, Indic vowels.
MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff\u200c\u200d"
# Scripts that put no spaces between words, and Hangul, whose words take many endings: found by pairs of characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17d3\u1100-\u11ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[\w{MARKS}{UNSPACED}]+")
RUN = re.compile(rf"[{UNSPACED}]+|[^{UNSPACED}]+")
# `camelCase`, `HTTPServer` and `snake_case` are found whole and by their parts.
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+")

STOP_WORDS = """
a about after all also am an and any are as at be because been before being both but by can could d did do does doing down
during each few for from further had has have having he her here hers him his how i if in into is it its itself just ll m me
more most my no nor not now of off on once only or other our out over own re s same she should so some such t than that the
their them then there these they this those through to too under until up ve very was we were what when where which while who
whom why will with would you your
"""

COUNTED = np.iinfo(np.uint16).max


def pack_terms(text: str) -> bytes:
    """The distinct terms of a chunk, sorted, then how often each occurs: six bytes for each."""
    return packed(terms_of(text))


def packed(occurring: Terms) -> bytes:
    """The same for terms in the order in which they occur."""
    terms, counts = np.unique(occurring, return_counts=True)
    return terms.tobytes() + np.minimum(counts, COUNTED).astype("<u2").tobytes()


def unpack_terms(packed: bytes) -> tuple[Terms, NDArray[np.uint16]]:
    """Both arrays as views of `packed`."""
    count = len(packed) // 6
    return np.frombuffer(packed, "<u4", count), np.frombuffer(packed, "<u2", count, 4 * count)


def query_terms(text: str) -> Terms:
    """The distinct terms of a question, without stop words unless nothing else is left."""
    terms = np.unique(terms_of(text))
    telling = terms[~np.isin(terms, STOP_TERMS)]
    return telling if telling.size else terms


def terms_of(text: str) -> Terms:
    """A term for each word of `text`, in its order."""
    words = WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text))
    return np.frombuffer(b"".join(map(HASHES.__getitem__, words)), "<u4")


class Hashes(dict[str, bytes]):
    """The packed terms of each word met so far: stemming a word again would be most of the cost."""

    def __init__(self, most: int = 100_000) -> None:
        super().__init__()
        self._most = most

    def __missing__(self, word: str) -> bytes:
        if len(self) >= self._most:
            self.clear()
        hashes = b"".join(crc32(term.encode()).to_bytes(4, "little") for term in split(word))
        self[word] = hashes
        return hashes


def split(word: str) -> list[str]:
    """`word` itself and the parts by which it shall be found too."""
    if not word.isascii():
        return [term for run in RUN.findall(word) for term in split_run(run)]
    return split_identifier(word)


def split_run(run: str) -> list[str]:
    if not RUN_OF_PAIRS.match(run):
        return split_identifier(run)
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


def split_identifier(word: str) -> list[str]:
    parts = [part for part in PART.findall(word) if len(part) > 1]
    whole = word.strip("_") or word
    return [stem(whole), *(map(stem, parts) if len(parts) > 1 else ())]


def stem(word: str) -> str:
    return STEMMER.stemWord(word.casefold())  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


RUN_OF_PAIRS = re.compile(rf"[{UNSPACED}]")
# Without a cache of its own a stemmer keeps nothing between two calls, and threads may share it.
STEMMER = Stemmer("english", 0)  # pyright: ignore[reportUnknownVariableType]
HASHES = Hashes()
STOP_TERMS = np.unique(terms_of(STOP_WORDS))
