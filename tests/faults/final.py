"""What the database holds when all is over."""

from dataclasses import dataclass, field, fields
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]


@dataclass
class Final:
    """Rows by table; `objects` are the keys of the file store, None when nobody listed them. `at` is Unix time."""

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
    objects: frozenset[str] | None = None
    at: float = 0.0


COLUMNS: dict[str, LiteralString] = {
    "chunks": "store_file_seq, position",
    "stray_blobs": "key",
}
"""Of tables whose other columns are large or of no interest."""
ORDER: dict[str, LiteralString] = {
    "events": "run_id, epoch, seq",
    "chunks": "store_file_seq, position",
    "stray_blobs": "key",
}


def read_final(database_url: str, objects: frozenset[str] | None) -> Final:
    """All of it, from PostgreSQL."""
    final = Final(objects=objects)
    with psycopg.Connection[Row].connect(database_url, row_factory=dict_row) as connection:  # pyright: ignore[reportArgumentType] - psycopg's stub
        for one in fields(Final):
            if one.name not in ("objects", "at"):
                columns, order = COLUMNS.get(one.name, "*"), ORDER.get(one.name, "seq")
                query = f"SELECT {columns} FROM {one.name} ORDER BY {order}"
                setattr(final, one.name, connection.execute(query.encode()).fetchall())
        clock = connection.execute("SELECT extract(epoch FROM now())::float AS at").fetchone()
    assert clock is not None
    final.at = clock["at"]
    return final
