"""PDF: PDFium's text, page by page; pypdf reads what PDFium refuses."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol, cast

import pypdf
import pypdfium2
from pypdf.errors import PyPdfError
from pypdfium2.raw import FPDF_ERR_PASSWORD

from threadloom.retrieval.parsing.decoding import is_blank, resemblance, tidy
from threadloom.retrieval.parsing.sections import DAMAGED, Heading, Section, invalid

MAX_PAGES = 20_000
HEAD = 1024
# PDFium's mark for a hyphen at which a word goes on in the next line.
HYPHEN = re.compile("[\x02\ufffe]\\s*")
OUTLINE = 5_000
ENCRYPTED = "it is encrypted. Remove the password and upload it again."


class Pages(Protocol):
    """A document as one of the two libraries opens it."""

    titles: dict[int, list[str]]

    def __len__(self) -> int: ...
    def text(self, index: int) -> str: ...


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
        text = tidy(pages.text(index)).strip()
        if not is_blank(text):
            found = True
            headings = tuple(find_titles(text, pages.titles.get(index, [])))
            yield Section(text, index + 1, headings, (index + 1) / len(pages))
    if not found:
        raise invalid("it has no text: it may be a scan. Run OCR on it and upload the result.")


def open_pages(path: Path) -> Pages:
    try:
        return PdfiumPages(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == FPDF_ERR_PASSWORD:  # pyright: ignore[reportUnknownMemberType]
            raise invalid(ENCRYPTED) from None
    return PypdfPages(path)


class Destination(Protocol):
    def get_index(self) -> int | None: ...


class Entry(Protocol):
    """What is used of a line in the table of contents; pypdfium2 has no types for it."""

    def get_dest(self) -> Destination | None: ...
    def get_title(self) -> str: ...


class PdfiumPages:
    """Fast, and right about the order of columns."""

    def __init__(self, path: Path) -> None:
        self._document = pypdfium2.PdfDocument(path)
        self.titles = outline(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def text(self, index: int) -> str:
        try:
            page = self._document[index]
        except pypdfium2.PdfiumError:
            return ""  # one damaged page is no reason to lose the others
        try:
            content = page.get_textpage()
            return HYPHEN.sub("", content.get_text_range())
        finally:
            page.close()


class PypdfPages:
    """Slow and forgiving."""

    def __init__(self, path: Path) -> None:
        self.titles: dict[int, list[str]] = {}
        try:
            self._document = pypdf.PdfReader(path)
            if self._document.is_encrypted:
                raise invalid(ENCRYPTED)
            self._length = len(self._document.pages)
        except (PyPdfError, ValueError, KeyError, RecursionError):
            raise invalid(DAMAGED) from None

    def __len__(self) -> int:
        return self._length

    def text(self, index: int) -> str:
        return self._document.pages[index].extract_text()


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
