"""Bytes to text, whatever their encoding, in a form that databases and tokenizers take."""

import codecs
import re
from collections.abc import Iterable

import puremagic
from charset_normalizer import from_bytes

from threadloom.retrieval.parsing.sections import invalid

SAMPLE = 32_768
WRONG_BYTES = 0.001
WRONG_WIDE = 0.1
WESTERN = "cp1252"
FEW_ACCENTS = 8
ACCENTS = re.compile(rb"[\x80-\xff]+")
LONGEST_RUN = 3
"""Words of another alphabet have more bytes beyond ASCII in a row."""
NEARLY = 0.05
# UTF-32 before UTF-16: the mark of one begins with that of the other.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# NUL cannot be stored by PostgreSQL, and lone surrogates by nobody.
UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff\ufffe\uffff]+")
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Kinds of files that may begin with, or hold, much that could be taken for text.
FOREIGN = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\x89PNG\r\n\x1a\n",
    b"\x1f\x8b\x08",
)
SURROGATES = re.compile("[\ud800-\udfff]")
VISIBLE = re.compile("[^\\s\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]")
LINE_ENDS = re.compile("\r\n?|[\f\v\x85\u2028\u2029]")
TRAILING = re.compile(r"[^\S\n]+(?=\n)")
BEYOND_ASCII = bytes(range(128, 256))
CONTROL = "".join(chr(c) for c in (*range(9), *range(14, 32), 127))
GAPS = ("  ", " \t", "\t ", "\t\t")
EMPTY_LINES_BEGIN = "\n\n\n\n"
EMPTY_LINES = re.compile(r"\n{4,}")
WIDE_GAPS = re.compile(r"[^\S\n]{64,}")


def decode(data: bytes) -> str:
    """The text of a file. Raises UnreadableFile for what is no text."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return decode_marked(data, len(mark), encoding)
    if encoding := unmarked_wide(data[:SAMPLE]):
        return data.decode(encoding, errors="replace")
    if data.startswith(FOREIGN) or looks_binary(data[:SAMPLE]):
        raise not_text(data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return decode_legacy(data, error.start)


def decode_marked(data: bytes, start: int, encoding: str) -> str:
    """What follows a mark; two bytes alone may begin anything, so much that is wrong behind them makes it no text."""
    text = data[start:].decode(encoding, errors="replace")
    sample = text[:SAMPLE]
    if encoding != "utf-8" and sample.count("\ufffd") > WRONG_WIDE * len(sample):
        raise not_text(data)
    return text


def decode_legacy(data: bytes, wrong: int) -> str:
    """Not UTF-8 from `wrong` on: a damaged byte here and there, or an older encoding."""
    sample = data[max(0, wrong - SAMPLE // 2) : wrong + SAMPLE // 2]
    if is_damaged(sample, valid=data[:wrong]):
        return data.decode(errors="replace")
    encoding = WESTERN if has_few_accents(sample) else likeliest(sample)
    if encoding is None:
        raise not_text(data)
    return data.decode(encoding, errors="replace")


def is_damaged(sample: bytes, valid: bytes) -> bool:
    """Whether UTF-8 was hit: next to few wrong bytes there are characters that only UTF-8 writes so."""
    text = sample.decode(errors="replace")
    wrong = text.count("\ufffd")
    right = len(text) - wrong - len(sample.translate(None, delete=BEYOND_ASCII))
    return wrong <= max(1, len(text) * WRONG_BYTES) and (right >= wrong or not valid.isascii())


def has_few_accents(sample: bytes) -> bool:
    """Whether the text is ASCII but for some bytes that stand alone: too few to tell an encoding by."""
    runs = ACCENTS.findall(sample)
    count = sum(map(len, runs))
    return (
        count <= max(FEW_ACCENTS, len(sample) // 100)
        and 3 * count < len(sample)
        and max(map(len, runs)) < LONGEST_RUN
    )


def likeliest(sample: bytes) -> str | None:
    """The old encoding in which the bytes make most sense; among equals that of Western Europe."""
    matches = from_bytes(sample)
    best = matches.best()
    western = next((match for match in matches if match.encoding == WESTERN), None)
    if best is None or western is None:
        return best.encoding if best else None
    equal = western.chaos <= best.chaos and western.coherence >= best.coherence - NEARLY
    return WESTERN if equal else best.encoding


def looks_binary(sample: bytes) -> bool:
    """More control characters than any text has."""
    return len(CONTROLS.findall(sample)) > 1 + len(sample) // 20


def unmarked_wide(sample: bytes) -> str | None:
    """UTF-32 or UTF-16 without a mark, told by where the zero bytes of its ASCII characters are."""
    quarter, half = len(sample) // 4, len(sample) // 2
    if quarter < 1 or b"\0" not in sample:
        return None
    zeros = [sample[i::4].count(0) for i in range(4)]
    if min(zeros[1], zeros[2], zeros[3]) > 0.9 * quarter and zeros[0] < 0.1 * quarter:
        return "utf-32-le"
    if min(zeros[0], zeros[1], zeros[2]) > 0.9 * quarter and zeros[3] < 0.1 * quarter:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > 0.2 * half and even < 0.01 * half + 1:
        return "utf-16-le"
    if even > 0.2 * half and odd < 0.01 * half + 1:
        return "utf-16-be"
    return None


def not_text(data: bytes) -> Exception:
    return invalid(f"it is not a text file{resemblance(data)}. Upload it under its real extension.")


def resemblance(data: bytes) -> str:
    """` (it looks like: Portable Network Graphics file)`, where that can be told."""
    if not data[:4].strip(b"\0"):
        return ""  # too many kinds begin so
    try:
        found = puremagic.magic_string(data[:SAMPLE])  # pyright: ignore[reportUnknownMemberType]
    except (puremagic.PureError, ValueError):
        return ""
    name = str(found[0].name) if found else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return f" (it looks like: {name})" if name else ""


def tidy(text: str) -> str:
    """The same text with plain line ends, without invisible control characters and without endless gaps."""
    # Looking for what is seldom there costs a tenth of replacing it.
    beyond_ascii = not text.isascii()
    if beyond_ascii or holds(text, "\r\f\v"):
        text = LINE_ENDS.sub("\n", text)
    if beyond_ascii or holds(text, CONTROL):
        text = UNWANTED.sub("", text)
    if beyond_ascii and SURROGATES.search(text):
        text = SURROGATES.sub("\ufffd", text)
    if beyond_ascii or holds(text, GAPS):
        text = WIDE_GAPS.sub(" ", text)
    if beyond_ascii or holds(text, (" \n", "\t\n")):
        text = TRAILING.sub("", text)
    if EMPTY_LINES_BEGIN in text:
        text = EMPTY_LINES.sub("\n\n\n", text)
    return text


def holds(text: str, marks: Iterable[str]) -> bool:
    return any(mark in text for mark in marks)


def is_blank(text: str) -> bool:
    """Nothing that anybody could see."""
    return VISIBLE.search(text) is None
