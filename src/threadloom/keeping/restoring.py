"""Putting a backup into an empty database, and its blobs into the file storage.

The blobs go first, under their own keys; then all rows in one transaction, under the lock that migrations take. Who is interrupted has an
empty database, and restores again.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, inspect

from threadloom import faults
from threadloom.blobs import Blobs
from threadloom.clock import Clock
from threadloom.db.copying import (
    clear,
    go_on_after,
    insert_records,
    is_empty,
    is_used,
    tables_of,
)
from threadloom.db.engine import connect
from threadloom.db.migrate import bring_to, locked, refuse_unknown, upgrade
from threadloom.db.rows import StrayBlobRow
from threadloom.errors import StartError
from threadloom.keeping.layout import (
    BLOBS,
    PIECE,
    BlobEntry,
    Manifest,
    blobs_of,
    read_lines,
    read_manifest,
)
from threadloom.keeping.verifying import faults_of

AT_ONCE = 8
TOGETHER = 500


async def restore_backup(
    engine: Engine, blobs: Blobs, clock: Clock, folder: Path, *, force: bool
) -> Manifest:
    """Restore into an empty database, or with `force` in the place of what is there. Raises StartError."""
    manifest = await asyncio.to_thread(checked, folder)
    await asyncio.to_thread(check_target, engine, clock, force)
    await write_blobs(blobs, folder, manifest)
    await asyncio.to_thread(write_rows, engine, clock, folder, manifest, force)
    await asyncio.to_thread(upgrade, engine)
    return manifest


def checked(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if fault := next(faults_of(folder), None):
        raise StartError(f"The backup is damaged, and nothing was restored: {fault}")
    refuse_unknown(manifest.schema_revision)
    return manifest


def check_target(engine: Engine, clock: Clock, force: bool) -> None:
    with connect(engine) as connection:
        refuse_target(connection, clock, force)


def refuse_target(connection: Connection, clock: Clock, force: bool) -> None:
    if is_used(connection, clock.now()):
        raise StartError(
            "Servers or workers use this database: stop them first. One that was killed counts for half a minute."
        )
    if not force and not is_empty(connection):
        raise StartError(
            "This database is not empty: restore into a new one, or replace all that is in it with --force."
        )


async def write_blobs(blobs: Blobs, folder: Path, manifest: Manifest) -> None:
    entries = (entry for entry in blobs_of(folder, manifest) if entry.sha256 is not None)
    while some := list(islice(entries, AT_ONCE)):
        await asyncio.gather(*(write_blob(blobs, entry, folder) for entry in some))
        faults.point("restore.blobs")


async def write_blob(blobs: Blobs, entry: BlobEntry, folder: Path) -> None:
    await blobs.write(entry.key, pieces(folder / BLOBS / entry.key))


async def pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece


def write_rows(engine: Engine, clock: Clock, folder: Path, manifest: Manifest, force: bool) -> None:
    """All or nothing."""
    with connect(engine, write=True) as connection, locked(connection):
        refuse_target(connection, clock, force)
        clear(connection, clock.now())
        bring_to(connection, manifest.schema_revision)
        tables = tables_of(connection)
        for table in tables:
            if part := manifest.tables.get(table.name):
                insert_records(connection, table, read_lines(folder, part))
                faults.point("restore.rows")
        go_on_after(connection, tables, manifest.numbers)
        keep_blobs(connection, folder, manifest)


def keep_blobs(connection: Connection, folder: Path, manifest: Manifest) -> None:
    """What is restored is not stray, though it may have been before."""
    if not inspect(connection).has_table(StrayBlobRow.__tablename__):
        return
    keys = (entry.key for entry in blobs_of(folder, manifest))
    while some := list(islice(keys, TOGETHER)):
        connection.execute(delete(StrayBlobRow).where(StrayBlobRow.key.in_(some)))
