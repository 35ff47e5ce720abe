"""CSV and Excel: rows in groups that fit a chunk, each under the names of its columns."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import openpyxl
from openpyxl.worksheet._read_only import ReadOnlyWorksheet

from threadloom.retrieval.parsing.archives import Archive
from threadloom.retrieval.parsing.decoding import tidy
from threadloom.retrieval.parsing.sections import MAX_TEXT, Heading, Section
from threadloom.tokens import CL100K_TOKENS

Row = list[str]
DELIMITERS = ",;\t|"
MAX_COLUMNS = 1_000
LINE = re.compile(r".*\n|.+")
XML = re.compile(r"\.(xml|rels)$")


def read_csv(text: str, tokens: int) -> Iterator[Section]:
    csv.field_size_limit(MAX_TEXT)
    line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=line.count)
    # With their ends, which may be inside a cell; one at a time, because all of them are as much as the text again.
    lines = (found[0] for found in LINE.finditer(text))
    rows = csv.reader(lines, delimiter=delimiter)
    count = text.count("\n") + (not text.endswith("\n"))
    for group in groups(clean(rows), tokens):
        yield Section(group, reach=min(1.0, rows.line_num / count))


def read_xlsx(path: Path, tokens: int) -> Iterator[Section]:
    """A heading for each sheet; formulas give the values that were saved with them."""
    refuse_bombs(path)
    # Opened here, because openpyxl refuses a path without an extension, and copies of documents have none.
    with path.open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        for number, sheet in enumerate(book.worksheets, 1):
            assert isinstance(sheet, ReadOnlyWorksheet)
            yield from read_sheet(sheet, tokens, reach=number / len(book.worksheets))


def read_sheet(sheet: ReadOnlyWorksheet, tokens: int, *, reach: float) -> Iterator[Section]:
    sheet.reset_dimensions()  # what a file tells of its size need not be so
    title = tidy(sheet.title).strip()
    rows = ([shown(cell) for cell in row] for row in sheet.iter_rows(values_only=True))
    room = max(tokens - CL100K_TOKENS.count(title) - 1, tokens // 2)
    for group in groups(clean(rows), room):
        yield Section(f"{title}\n{group}", headings=(Heading(0, title),), reach=reach)


def refuse_bombs(path: Path) -> None:
    """Openpyxl opens the parts by itself: the size and the beginning of each are looked at before."""
    archive = Archive(path, "Excel workbook (.xlsx)")
    for name in archive.names():
        if XML.search(name):
            next(archive.elements(name, {"*"}), None)


def shown(cell: object) -> str:
    return "" if cell is None else str(cell)


def clean(rows: Iterable[Row]) -> Iterator[str]:
    """The rows that are not empty, each in one line."""
    for row in rows:
        line = " | ".join(" ".join(tidy(cell).split()) for cell in row[:MAX_COLUMNS])
        if line.strip(" |"):
            yield line.rstrip(" |")


def groups(lines: Iterator[str], tokens: int) -> Iterator[str]:
    """Some lines each, under the first line of all; a chunk of so many tokens holds them."""
    header = next(lines, None)
    if header is None:
        return
    top = CL100K_TOKENS.count(header)
    group, size = [header], top
    for line in lines:
        count = CL100K_TOKENS.count(line) + 1
        if len(group) > 1 and size + count > tokens:
            yield "\n".join(group)
            group, size = [header], top
        group.append(line)
        size += count
    yield "\n".join(group)
