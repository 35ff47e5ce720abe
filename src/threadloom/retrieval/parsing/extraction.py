"""A file of any supported kind to sections of text."""

from collections.abc import Iterator
from pathlib import Path

from threadloom.retrieval.parsing.decoding import decode, is_blank, tidy
from threadloom.retrieval.parsing.formats import Format
from threadloom.retrieval.parsing.markup import markdown_headings, tex_headings
from threadloom.retrieval.parsing.pdf import read_pdf
from threadloom.retrieval.parsing.sections import (
    MAX_TEXT,
    Heading,
    Section,
    empty,
    too_long,
    unsupported,
)

# UTF-16 has two bytes for most characters.
MAX_TEXT_BYTES = 2 * MAX_TEXT + 2


def extract(path: Path, kind: Format) -> Iterator[Section]:
    """The sections of a document, some with text at least. Raises UnreadableFile, also half-way."""
    if path.stat().st_size == 0:
        raise empty()
    length = 0
    for section in read(path, kind):
        length += len(section.text)
        if length > MAX_TEXT:
            raise too_long()
        yield section
    if not length:
        raise empty()


def read(path: Path, kind: Format) -> Iterator[Section]:
    match kind:
        case "text" | "csv" | "html" | "docx" | "pptx" | "xlsx":
            yield from whole(read_text(path))
        case "markdown":
            text = read_text(path)
            yield from whole(text, *markdown_headings(text))
        case "tex":
            text = read_text(path)
            yield from whole(text, *tex_headings(text))
        case "pdf":
            yield from read_pdf(path)
        case "doc":
            raise unsupported(
                "old Word documents (.doc) cannot be read. Save it as .docx and upload that."
            )


def read_text(path: Path) -> str:
    """A text file, whatever its encoding."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise too_long()
    text = tidy(decode(path.read_bytes()))
    if is_blank(text):
        raise empty()
    return text


def whole(text: str, *headings: Heading) -> Iterator[Section]:
    """A document without pages."""
    yield Section(text, headings=headings)
