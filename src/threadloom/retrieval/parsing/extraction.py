"""A file of any supported kind to sections of text."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from threadloom.retrieval.parsing.decoding import decode, is_blank, tidy
from threadloom.retrieval.parsing.formats import Format
from threadloom.retrieval.parsing.html import read_html
from threadloom.retrieval.parsing.markup import markdown_headings, tex_headings
from threadloom.retrieval.parsing.pdf import read_pdf
from threadloom.retrieval.parsing.sections import (
    MAX_TEXT,
    Heading,
    Section,
    empty,
    invalid,
    too_long,
    unsupported,
)
from threadloom.retrieval.parsing.slides import read_pptx
from threadloom.retrieval.parsing.tables import read_csv, read_xlsx
from threadloom.retrieval.parsing.word import read_docx

# UTF-16 has two bytes for most characters.
MAX_TEXT_BYTES = 2 * MAX_TEXT + 2
HEADINGS: dict[Format, Callable[[str], Iterable[Heading]]] = {
    "text": lambda _: (),
    "markdown": markdown_headings,
    "tex": tex_headings,
}


def extract(path: Path, kind: Format, tokens: int) -> Iterator[Section]:
    """The sections of a document, some with text at least; rows of tables are grouped for chunks of so many tokens.

    Raises UnreadableFile, also half-way.
    """
    if path.stat().st_size == 0:
        raise empty()
    length = 0
    for section in read(path, kind, tokens):
        length += len(section.text)
        if length > MAX_TEXT:
            raise too_long()
        yield section
    if not length:
        raise invalid("it has no text.")


def read(path: Path, kind: Format, tokens: int) -> Iterator[Section]:
    match kind:
        case "text" | "markdown" | "tex":
            text = read_text(path)
            yield Section(text, headings=tuple(HEADINGS[kind](text)))
        case "html":
            yield read_html(bytes_of_text(path))
        case "csv":
            yield from read_csv(read_text(path), tokens)
        case "xlsx":
            yield from read_xlsx(path, tokens)
        case "docx":
            yield from read_docx(path)
        case "pptx":
            yield from read_pptx(path)
        case "pdf":
            yield from read_pdf(path)
        case "doc":
            raise unsupported("it is an old Word document. Save it as .docx and upload that.")


def read_text(path: Path) -> str:
    """A text file, whatever its encoding."""
    text = tidy(decode(bytes_of_text(path)))
    if is_blank(text):
        raise empty()
    return text


def bytes_of_text(path: Path) -> bytes:
    """Not more than can be text within its limit."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise too_long()
    return path.read_bytes()
