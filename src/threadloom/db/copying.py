"""All rows of a database, whatever its schema and engine: read on one snapshot, or put into another database.

The tables are those that the database has, not those that this program knows: so a copy of an older schema can be read and written too.
"""

import base64
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    Inspector,
    LargeBinary,
    MetaData,
    Table,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)

from threadloom.db.beats import ALIVE_FOR
from threadloom.db.engine import connect, is_sqlite

Record = dict[str, Any]
"""A row as JSON has it: bytes are base64."""
NOT_COPIED = frozenset(
    {"alembic_version", "rates", "stray_blobs", "processes", "index_files", "index_windows"}
)
"""Caches, and what is true of one installation only."""
READ_AT_ONCE = 100
WRITTEN_AT_ONCE = 500
OWN_NAME = "threadloom backup"
"""Not `threadloom`: those connections are ended when nothing happens in their transactions (db/frozen.py)."""


@contextmanager
def snapshot(engine: Engine) -> Generator[Connection]:
    """A connection that sees one state of the database, however long it reads. Nobody waits for it."""
    with connect(engine) as connection:
        if not is_sqlite(engine):
            connection.execution_options(isolation_level="REPEATABLE READ")
            connection.exec_driver_sql(f"SET application_name = '{OWN_NAME}'")
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        yield connection


def tables_of(connection: Connection) -> list[Table]:
    """What is copied, each table after those that it refers to."""
    metadata = MetaData()
    event.listen(metadata, "column_reflect", type_json)
    names = [name for name in inspect(connection).get_table_names() if name not in NOT_COPIED]
    metadata.reflect(connection, only=names)
    return metadata.sorted_tables


def type_json(inspector: Inspector, table: Table, column: Record) -> None:
    del inspector, table
    if isinstance(column["type"], JSON):
        column["type"] = JSON(none_as_null=True)


def is_bytes(table: Table) -> list[str]:
    return [column.name for column in table.columns if isinstance(column.type, LargeBinary)]


def records_of(connection: Connection, table: Table) -> Iterator[Record]:
    """All rows in the order of their keys."""
    encoded = is_bytes(table)
    names = [str(name) for name in table.columns.keys()]  # noqa: SIM118 - of plain strings, as JSON wants them
    everything = select(table).order_by(*table.primary_key.columns)
    with connection.execute(everything.execution_options(yield_per=READ_AT_ONCE)) as rows:
        for row in rows:
            record = dict(zip(names, row, strict=True))
            for name in encoded:
                if record[name] is not None:
                    record[name] = base64.b64encode(record[name]).decode()
            yield record


def insert_records(connection: Connection, table: Table, records: Iterable[Record]) -> int:
    """Answers with how many there were."""
    encoded = is_bytes(table)
    count = 0
    waiting: list[Record] = []
    for record in records:
        for name in encoded:
            if record[name] is not None:
                record[name] = base64.b64decode(record[name])
        waiting.append(record)
        count += 1
        if len(waiting) == WRITTEN_AT_ONCE:
            connection.execute(insert(table), waiting)
            waiting.clear()
    if waiting:
        connection.execute(insert(table), waiting)
    return count


def is_empty(connection: Connection) -> bool:
    """Whether there is nothing but projects without keys, which every server makes."""
    return all(
        connection.execute(select(1).select_from(table).limit(1)).first() is None
        for table in tables_of(connection)
        if table.name != "projects"
    )


def is_used(connection: Connection, now: float) -> bool:
    """Whether a server or worker was seen lately (processes.py)."""
    if not inspect(connection).has_table("processes"):
        return False
    seen = text("SELECT 1 FROM processes WHERE seen_at > :since LIMIT 1")
    return connection.execute(seen, {"since": now - ALIVE_FOR}).first() is not None


def clear(connection: Connection, now: float) -> None:
    """Remove all rows, also of caches; their blobs are swept."""
    names = set(inspect(connection).get_table_names())
    tables = tables_of(connection)
    if "stray_blobs" in names:
        for table in tables:
            leave_blobs(connection, table, now)
    for name in NOT_COPIED & names - {"alembic_version", "stray_blobs"}:
        connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - a name of our own
    for table in reversed(tables):
        connection.execute(table.delete())


def leave_blobs(connection: Connection, table: Table, now: float) -> None:
    if not {"blob", "blobs"} & set(table.columns.keys()):
        return
    known = text("INSERT INTO stray_blobs (key, due_at) VALUES (:key, :now) ON CONFLICT DO NOTHING")
    for record in records_of(connection, table):
        if keys := blobs_in(record):
            connection.execute(known, [{"key": key, "now": now} for key in keys])


def blobs_in(record: Record) -> Sequence[str]:
    """The keys of a row's blobs: files and what is kept of sandboxes have a list, parts of uploads one."""
    one: str | None = record.get("blob")
    return record.get("blobs", ()) if one is None else (one,)


def numbers_of(connection: Connection, tables: Sequence[Table]) -> dict[str, int]:
    """The last number that each table has given away, also to a row that is gone."""
    if is_sqlite(connection.engine):
        given = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
        names = {table.name for table in tables}
        return {name: seq for name, seq in given if name in names}
    found: dict[str, int] = {}
    for table in tables:
        if sequence := sequence_of(connection, table):
            last, is_called = connection.exec_driver_sql(
                f"SELECT last_value, is_called FROM {sequence}"  # noqa: S608 - as PostgreSQL quotes it
            ).one()
            found[table.name] = last if is_called else last - 1
    return found


def sequence_of(connection: Connection, table: Table) -> str | None:
    """The name of the sequence that counts the table's rows on PostgreSQL."""
    if "seq" not in table.columns:
        return None
    asked = text("SELECT pg_get_serial_sequence(:name, 'seq')")
    sequence: str | None = connection.scalar(asked, {"name": f'"{table.name}"'})
    return sequence


def go_on_after(
    connection: Connection, tables: Sequence[Table], numbers: Mapping[str, int]
) -> None:
    """Give no number away again that a table has given away before."""
    for table in tables:
        last = numbers.get(table.name, 0)
        if "seq" in table.columns:
            last = max(last, connection.scalar(select(func.max(table.columns["seq"]))) or 0)
        if last:
            set_number(connection, table, last)


def set_number(connection: Connection, table: Table, last: int) -> None:
    if is_sqlite(connection.engine):
        named = {"name": table.name, "last": last}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
        connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), named)
    elif sequence := sequence_of(connection, table):
        connection.execute(
            text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last}
        )
