"""What commands print: tables for people, lines that `grep` and `cut` can read, or one JSON document.

What comes from clients is shown without its control characters, which a terminal would obey.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar

import typer
from pydantic_core import to_json
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from threadloom.types.shared import Deleted, Page, Sent

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], object]]
"""What a table shows of each object, by the names of its columns."""
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
GAP = "  "
INDENT = "    "


class Made(Protocol):
    """An object of the API."""

    @property
    def id(self) -> str: ...


def show_json(document: object) -> None:
    """One JSON document: objects of the API, dataclasses, and what JSON itself knows."""
    typer.echo(to_json(document, indent=2))


def show_page(page: Page[T], columns: Columns[T], *, as_json: bool) -> None:
    """A page of a list, and how to get the next one."""
    if as_json:
        show_json(page)
        return
    show_table(list(columns), ([get(one) for get in columns.values()] for one in page.data))
    if page.has_more:
        note(f"There are more: --after {page.last_id}")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere one line for each row, in columns that are two spaces apart. The first is never broken."""
    cells = [[cell(value) for value in row] for row in rows]
    console = Console()
    if not console.is_terminal:
        show_lines([columns, *cells])
        return
    first, *others = columns
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def show_lines(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)
        )
        typer.echo(GAP.join(padded).rstrip())


def show_object(document: Sent, *, as_json: bool) -> None:
    """An object of the API: what it has, a line for each key; times in UTC."""
    if as_json:
        show_json(document)
        return
    fields = document.model_dump(mode="json")
    show_fields({name: field(name, value) for name, value in fields.items() if value is not None})


def field(name: str, value: object) -> object:
    if name.endswith("_at") and isinstance(value, int):
        return when(value)
    return to_json(value).decode() if isinstance(value, dict | list | float) else value


def show_made(made: Made, *, as_json: bool) -> None:
    """What was made: for scripts that go on with it, its id alone."""
    if as_json:
        show_json(made)
    else:
        typer.echo(made.id)


def show_deleted(deleted: Deleted, *, as_json: bool) -> None:
    if as_json:
        show_json(deleted)
    else:
        typer.echo(f"Deleted {deleted.id}.")


def show_fields(fields: Mapping[str, object]) -> None:
    """What one object has, a line for each."""
    width = max(map(len, fields)) + len(GAP)
    for name, value in fields.items():
        typer.echo(f"{name:{width}}{cell(value)}".rstrip())


def show_text(text: str) -> None:
    """Text of several lines, below what it belongs to."""
    for line in text.splitlines():
        typer.echo(INDENT + plain(line))


def note(text: str) -> None:
    """What is not part of the answer, on standard error."""
    typer.echo(plain(text), err=True)


def cell(value: object) -> str:
    """A value in one line; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}"
        case list() | tuple():
            return ", ".join(map(cell, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - of anything
        case _:
            return plain(str(value))


def plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


def when(seconds: float | None) -> str | None:
    """A time of the API (Unix seconds), in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
