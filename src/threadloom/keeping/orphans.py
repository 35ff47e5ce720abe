"""What belongs to nothing: blobs without rows, rows without blobs, and index files without stores.

Nothing of that comes about by itself (files/strays.py): it tells of a database and a storage that were restored apart, or of somebody's hand.
"""

import asyncio
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from threadloom.blobs import Blobs
from threadloom.db.copying import blobs_in, records_of, snapshot, tables_of
from threadloom.db.database import Database
from threadloom.db.rows import StrayBlobRow
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.keeper import existing

OURS = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}")
"""Nothing else in the storage was written by this program, and nothing else is touched."""
SHOWN = 1_000
DELETED_AT_ONCE = 500


@dataclass(frozen=True)
class Orphans:
    """Keys and paths, at most `SHOWN` of a kind, and how many there are."""

    blobs: Sequence[str]
    blob_count: int
    missing_blobs: Sequence[str]
    missing_count: int
    index_files: Sequence[Path]


async def find_orphans(database: Database, blobs: Blobs, indexes: Path) -> Orphans:
    """Compares the two in a database of its own on the disk: they may be millions.

    The storage is listed first, because a key is known before its first byte is written.
    """
    with closing(sqlite3.connect("", check_same_thread=False)) as keys:
        keys.execute("CREATE TABLE stored (key TEXT PRIMARY KEY) WITHOUT ROWID")
        keys.execute("CREATE TABLE known (key TEXT PRIMARY KEY, referred INT) WITHOUT ROWID")
        async for some in blobs.keys():
            stored = [(key,) for key in some if OURS.fullmatch(key)]
            keys.executemany("INSERT OR IGNORE INTO stored VALUES (?)", stored)
        await asyncio.to_thread(note_rows, database, keys)
        extra = "FROM stored WHERE key NOT IN (SELECT key FROM known)"
        lost = "FROM known WHERE referred AND key NOT IN (SELECT key FROM stored)"
        missing = [key for key in chosen(keys, lost) if not await blobs.has(key)]
        return Orphans(
            blobs=chosen(keys, extra),
            blob_count=count(keys, extra),
            missing_blobs=missing,
            missing_count=count(keys, lost) if len(missing) == SHOWN else len(missing),
            index_files=await orphaned_indexes(database, indexes),
        )


def note_rows(database: Database, keys: sqlite3.Connection) -> None:
    """What rows refer to, and what is to be removed anyhow."""
    with snapshot(database.direct) as connection:
        for table in tables_of(connection):
            if {"blob", "blobs"} & set(table.columns.keys()):
                for record in records_of(connection, table):
                    note(keys, blobs_in(record), referred=1)
        note(keys, connection.scalars(select(StrayBlobRow.key)), referred=0)


def note(keys: sqlite3.Connection, given: Iterable[str], *, referred: int) -> None:
    keys.executemany(
        "INSERT OR IGNORE INTO known VALUES (?, ?)", ((key, referred) for key in given)
    )


def chosen(keys: sqlite3.Connection, which: str) -> list[str]:
    rows = keys.execute(f"SELECT key {which} ORDER BY key LIMIT {SHOWN}")
    return [key for (key,) in rows]


def count(keys: sqlite3.Connection, which: str) -> int:
    (found,) = keys.execute(f"SELECT count(*) {which}").fetchone()
    return int(found)


async def orphaned_indexes(database: Database, directory: Path) -> list[Path]:
    orphaned: list[Path] = []
    for files in (CacheFiles(directory), CacheFiles(directory / "words")):
        store_ids = await asyncio.to_thread(files.store_ids)
        there = await database.read(existing, store_ids)
        orphaned += [files.path(store_id) for store_id in store_ids if store_id not in there]
    return orphaned


async def delete_orphans(blobs: Blobs, found: Orphans) -> None:
    """Blobs and index files. Rows stay: that all bytes are missing tells more often of a wrong setting than of lost files."""
    for start in range(0, len(found.blobs), DELETED_AT_ONCE):
        await blobs.delete(found.blobs[start : start + DELETED_AT_ONCE])
    for path in found.index_files:
        await asyncio.to_thread(path.unlink, missing_ok=True)
