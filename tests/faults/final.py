"""What the database holds when all is over."""

from dataclasses import dataclass, field, fields
from typing import Any

import orjson
from sqlalchemy import Connection, Table, text

from threadloom.db.columns import Json
from threadloom.db.engine import create_engine, is_sqlite
from threadloom.db.rows import Row as Table_

Row = dict[str, Any]


@dataclass
class Final:
    """Rows by table; `objects` are the keys of the file store, None when nobody listed them. `at` is Unix time."""

    projects: list[Row] = field(default_factory=list[Row])
    assistants: list[Row] = field(default_factory=list[Row])
    threads: list[Row] = field(default_factory=list[Row])
    messages: list[Row] = field(default_factory=list[Row])
    runs: list[Row] = field(default_factory=list[Row])
    run_steps: list[Row] = field(default_factory=list[Row])
    events: list[Row] = field(default_factory=list[Row])
    files: list[Row] = field(default_factory=list[Row])
    vector_stores: list[Row] = field(default_factory=list[Row])
    vector_store_files: list[Row] = field(default_factory=list[Row])
    chunks: list[Row] = field(default_factory=list[Row])
    stray_blobs: list[Row] = field(default_factory=list[Row])
    stray_chunks: list[Row] = field(default_factory=list[Row])
    webhook_endpoints: list[Row] = field(default_factory=list[Row])
    webhook_deliveries: list[Row] = field(default_factory=list[Row])
    objects: frozenset[str] | None = None
    at: float = 0.0


COLUMNS = {
    "chunks": "store_file_seq, position",
    "stray_blobs": "key",
}
"""Of tables whose other columns are large or of no interest."""
ORDER = {
    "events": "run_id, epoch, seq",
    "chunks": "store_file_seq, position",
    "stray_blobs": "key",
    "stray_chunks": "store_file_seq",
}
NOW = {
    True: "SELECT (julianday('now') - 2440587.5) * 86400",
    False: "SELECT extract(epoch FROM now())::float",
}
"""By whether it is SQLite that is asked."""


def read_final(database_url: str, objects: frozenset[str] | None) -> Final:
    """All of it."""
    final = Final(objects=objects)
    engine = create_engine(database_url, patient=True)
    with engine.connect() as connection:
        for one in fields(Final):
            if one.name not in ("objects", "at"):
                setattr(final, one.name, rows_of(connection, Table_.metadata.tables[one.name]))
        final.at = float(connection.execute(text(NOW[is_sqlite(engine)])).scalar_one())
    engine.dispose()
    return final


def rows_of(connection: Connection, table: Table) -> list[Row]:
    """As they are stored: not as the objects that our code makes of them."""
    columns, order = COLUMNS.get(table.name, "*"), ORDER.get(table.name, "seq")
    found = connection.execute(text(f"SELECT {columns} FROM {table.name} ORDER BY {order}"))
    documents = {column.name for column in table.columns if isinstance(column.type, Json)}
    encoded = documents if is_sqlite(connection.engine) else frozenset[str]()
    return [
        {name: loaded(value) if name in encoded else value for name, value in row.items()}
        for row in found.mappings()
    ]


def loaded(value: str | None) -> Any:
    """SQLite stores JSON as text."""
    return None if value is None else orjson.loads(value)
