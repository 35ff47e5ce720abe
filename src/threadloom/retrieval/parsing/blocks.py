"""Paragraphs, rows and titles put together to a section."""

from threadloom.retrieval.parsing.decoding import is_blank, tidy
from threadloom.retrieval.parsing.sections import Heading, Section

PARAGRAPH = "\n\n"
LINE = "\n"


class Blocks:
    """The text of a section, block by block."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._headings: list[Heading] = []
        self._length = 0
        self._gap = ""

    def paragraph(self, text: str) -> None:
        self._add(text, PARAGRAPH)

    def line(self, text: str) -> None:
        """Such as a table's row: the next line follows without an empty one between them."""
        self._add(text, LINE)

    def title(self, text: str) -> None:
        one_line = tidy(" ".join(text.split()))
        if self._add(one_line, PARAGRAPH):
            self._headings.append(Heading(self._length - len(one_line.strip()), one_line.strip()))

    def section(self, *, page: int | None = None, reach: float = 1.0) -> Section:
        return Section("".join(self._parts), page, tuple(self._headings), reach)

    def _add(self, text: str, gap: str) -> bool:
        clean = tidy(text).strip()
        if is_blank(clean):
            self._gap = gap if gap == PARAGRAPH else self._gap
            return False
        between = LINE if gap == self._gap == LINE else PARAGRAPH if self._parts else ""
        self._parts += (between, clean)
        self._length += len(between) + len(clean)
        self._gap = gap
        return True
