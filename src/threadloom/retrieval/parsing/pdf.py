"""PDF: PDFium's text, page by page; pypdf reads what PDFium refuses."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol, cast

import pypdf
import pypdfium2
from pypdf.errors import PyPdfError
from pypdfium2 import raw

from threadloom.retrieval.parsing.decoding import is_blank, resemblance, tidy
from threadloom.retrieval.parsing.sections import DAMAGED, ENCRYPTED, Heading, Section, invalid

MAX_PAGES = 20_000
HEAD = 1024
# PDFium's mark for a hyphen at which a word goes on in the next line.
HYPHEN = re.compile("[\x02\ufffe]\\s*")
OUTLINE = 5_000
LARGER = 1.1
LONGEST_TITLE = 150
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Page:
    """What stands on a page, and what of it are titles."""

    text: str
    titles: list[str]


# Bound by pypdfium2 when it is loaded, without types.
font_size = cast(Callable[[pypdfium2.PdfTextPage, int], float], raw.FPDFText_GetFontSize)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


class Pages(Protocol):
    """A document as one of the two libraries opens it."""

    def __len__(self) -> int: ...
    def read(self, index: int) -> Page: ...


def read_pdf(path: Path) -> Iterator[Section]:
    """A section for each page with text."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if b"%PDF-" not in head:
        raise invalid(f"it is no PDF{resemblance(head)}. Upload it under its real extension.")
    pages = open_pages(path)
    if len(pages) > MAX_PAGES:
        raise invalid(f"it has more than {MAX_PAGES:,} pages. Split it into smaller files.")
    found = False
    for index in range(len(pages)):
        page = pages.read(index)
        text = tidy(HYPHEN.sub("", page.text)).strip()
        if not is_blank(text):
            found = True
            headings = tuple(find_titles(text, page.titles))
            yield Section(text, index + 1, headings, (index + 1) / len(pages))
    if not found:
        raise invalid("it has no text: it may be a scan. Run OCR on it and upload the result.")


def open_pages(path: Path) -> Pages:
    try:
        return PdfiumPages(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:  # pyright: ignore[reportUnknownMemberType]
            raise invalid(ENCRYPTED) from None
    return PypdfPages(path)


class Destination(Protocol):
    def get_index(self) -> int | None: ...


class Entry(Protocol):
    """What is used of a line in the table of contents; pypdfium2 has no types for it."""

    def get_dest(self) -> Destination | None: ...
    def get_title(self) -> str: ...


class PdfiumPages:
    """Fast, and right about the order of columns. Titles are those of the outline, else the lines in larger type."""

    def __init__(self, path: Path) -> None:
        self._document = pypdfium2.PdfDocument(path)
        self._outline = outline(self._document)
        self._sizes: Counter[float] = Counter()

    def __len__(self) -> int:
        return len(self._document)

    def read(self, index: int) -> Page:
        try:
            page = self._document[index]
        except pypdfium2.PdfiumError:
            return Page("", [])  # one damaged page is no reason to lose the others
        try:
            content = page.get_textpage()
            text = content.get_text_range()
            titles = self._outline.get(index, []) if self._outline else self._large(content, text)
            return Page(text, titles)
        finally:
            page.close()

    def _large(self, content: pypdfium2.PdfTextPage, text: str) -> list[str]:
        """Lines in type that is larger than most of the document so far; neighbours of one size are one title."""
        lines = [*sized_lines(content, text)]
        for size, line in lines:
            self._sizes[size] += len(line)
        usual = self._sizes.most_common(1)[0][0] if self._sizes else 0.0
        joined = [(s, " ".join(line for _, line in g)) for s, g in groupby(lines, itemgetter(0))]
        return [
            line
            for size, line in joined
            if size > usual * LARGER and len(line) < LONGEST_TITLE and LETTER.search(line)
        ]


def sized_lines(content: pypdfium2.PdfTextPage, text: str) -> Iterator[tuple[float, str]]:
    """Each line with the size of its first letter."""
    at = 0
    for line in text.split("\n"):
        if clean := line.strip():
            first = at + len(line) - len(line.lstrip())
            yield round(font_size(content, first), 1), clean
        at += len(line) + 1


class PypdfPages:
    """Slow and forgiving."""

    def __init__(self, path: Path) -> None:
        try:
            self._document = pypdf.PdfReader(path)
            if self._document.is_encrypted:
                raise invalid(ENCRYPTED)
            self._length = len(self._document.pages)
        except (PyPdfError, ValueError, KeyError, RecursionError):
            raise invalid(DAMAGED) from None

    def __len__(self) -> int:
        return self._length

    def read(self, index: int) -> Page:
        return Page(self._document.pages[index].extract_text(), [])


def outline(document: pypdfium2.PdfDocument) -> dict[int, list[str]]:
    """The titles of the table of contents by the page they lead to."""
    entries = cast(Iterator[Entry], document.get_toc())  # pyright: ignore[reportUnknownMemberType]
    titles: dict[int, list[str]] = {}
    for entry in islice(entries, OUTLINE):
        destination = entry.get_dest()
        page = destination.get_index() if destination else None
        title = " ".join(entry.get_title().split())
        if page is not None and title:
            titles.setdefault(page, []).append(title)
    return titles


def find_titles(text: str, titles: list[str]) -> Iterator[Heading]:
    """Where on its page each title stands; one that is not found stands at the top."""
    at = 0
    for title in titles:
        match = re.compile(r"\s+".join(map(re.escape, title.split()))).search(text, at)
        at = match.start() if match else at
        yield Heading(at, title)
