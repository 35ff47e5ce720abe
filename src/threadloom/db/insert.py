"""INSERTs of whole rows at the driver: SQLAlchemy's unit of work costs three times as much (docs/performance.md)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import orjson
from sqlalchemy import Dialect, Integer, String, Table, insert, inspect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.compiler import SQLCompiler

from threadloom.db.rows import Row

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Value:
    """Where a column's value comes from, and how the driver wants it."""

    column: str
    type: str
    attribute: str
    default: Any
    convert: Convert | None

    def of(self, row: Row) -> Any:
        value = getattr(row, self.attribute)
        if value is None and self.default is not None:
            value = self.default
            setattr(row, self.attribute, value)
        return self.convert(value) if self.convert else value


@dataclass(frozen=True)
class Insertion:
    """A statement that was compiled once, and one that inserts what is not there yet: with `at_once`, all of it."""

    sql: str
    missing: str
    values: tuple[Value, ...]
    positional: bool
    at_once: bool

    def arranged(self, row: Sequence[Any]) -> tuple[Any, ...] | dict[str, Any]:
        if self.positional:
            return tuple(row)
        return {value.column: one for value, one in zip(self.values, row, strict=True)}

    def parameters(self, row: Row) -> tuple[Any, ...] | dict[str, Any]:
        if self.positional:
            return tuple(value.of(row) for value in self.values)
        return {value.column: value.of(row) for value in self.values}


def insert_row(session: Session, row: Row) -> None:
    """Insert a row that this transaction does not change any more: the session never hears of it."""
    connection = session.connection()
    insertion = insertion_of(type(row), connection.dialect)
    connection.exec_driver_sql(insertion.sql, insertion.parameters(row))


def insert_missing(session: Session, kind: type[Row], rows: Iterable[Sequence[Any]]) -> int:
    """Insert rows, as plain values in the order of their columns, unless they are there already; answers how many were not."""
    connection = session.connection()
    insertion = insertion_of(kind, connection.dialect)
    arranged = [insertion.arranged(row) for row in rows]
    parameters = {"rows": orjson.dumps(arranged).decode()} if insertion.at_once else arranged
    return connection.exec_driver_sql(insertion.missing, parameters).rowcount


@cache
def insertion_of(kind: type[Row], dialect: Dialect) -> Insertion:
    mapper: Mapper[Row] = inspect(kind)
    table = cast("Table[Any]", mapper.local_table)  # no class is mapped to anything else
    columns = {
        column.key: Value(
            column.key,
            column.type.compile(dialect),
            mapper.get_property_by_column(column).key,
            column.default.arg if column.default is not None else None,  # pyright: ignore[reportAttributeAccessIssue] - ours are scalars
            column.type.dialect_impl(dialect).bind_processor(dialect),
        )
        for column in table.columns
        if column is not table.autoincrement_column
    }
    compiled = insert(table).inline().compile(dialect=dialect, column_keys=list(columns))
    assert isinstance(compiled, SQLCompiler)
    order = compiled.positiontup
    values = tuple(columns[name] for name in (columns if order is None else order))
    sql = str(compiled)
    plain = all(isinstance(table.columns[value.column].type, String | Integer) for value in values)
    at_once = order is None and plain
    missing = from_json(table, values, dialect) if at_once else sql
    return Insertion(
        sql,
        f"{missing} ON CONFLICT DO NOTHING",
        values,
        positional=order is not None,
        at_once=at_once,
    )


def from_json(table: Table, values: Sequence[Value], dialect: Dialect) -> str:
    """Many rows as one parameter, which costs a quarter of executing a statement for each."""
    quoted = dialect.identifier_preparer.quote
    names = ", ".join(quoted(value.column) for value in values)
    typed = ", ".join(f"{quoted(value.column)} {value.type}" for value in values)
    source = f"json_to_recordset(%(rows)s::json) AS given ({typed})"
    return f"INSERT INTO {quoted(table.name)} ({names}) SELECT * FROM {source}"  # noqa: S608 - names of our own tables
