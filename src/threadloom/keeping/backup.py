"""Making a backup while the server works: one snapshot of all rows, then the blobs that they refer to.

What is deleted meanwhile keeps its bytes until the backup is done: the backup says in `stray_blobs` that it is there.
"""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import orjson
from sqlalchemy import Connection, Engine, Table, delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from threadloom import __version__
from threadloom.blobs import Blobs
from threadloom.clock import Clock
from threadloom.db.copying import Record, blobs_in, numbers_of, records_of, snapshot, tables_of
from threadloom.db.engine import connect
from threadloom.db.migrate import revision_of
from threadloom.db.rows import StrayBlobRow
from threadloom.errors import BlobMissing, StartError
from threadloom.files.strays import HELD, HELD_FOR
from threadloom.keeping.layout import (
    BLOBS,
    ROWS,
    BlobEntry,
    Manifest,
    Part,
    hashed_file,
    sync_directories,
    write_lines,
    write_manifest,
)

KEYS = "keys"
AT_ONCE = 8
"""Blobs that are copied at the same time."""
RENEW_EVERY = HELD_FOR / 5
LAPSED = (
    "The database did not answer for so long that bytes of deleted files may be missing: nothing was kept, "
    "begin again."
)
NOTHING = Part(path="", sha256="", bytes=0, lines=0)


async def create_backup(engine: Engine, blobs: Blobs, clock: Clock, path: Path) -> Manifest:
    """Back up to a directory that is not there yet; it appears when it is whole. Raises StartError."""
    folder = await asyncio.to_thread(new_folder, path)
    try:
        manifest = await write_backup(engine, blobs, clock, folder)
        await asyncio.to_thread(publish, folder, path)
    except OSError as error:
        raise StartError(f"The backup could not be written: {error.strerror}.") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return manifest


def new_folder(path: Path) -> Path:
    """A directory beside it, that only this user can read."""
    if path.exists():
        raise StartError(f"{path} is there already: give the backup another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(".unfinished", f".{path.name}.", path.parent))
    except OSError as error:
        raise StartError(f"Cannot write to {path.parent}: {error.strerror}.") from None


def publish(folder: Path, path: Path) -> None:
    """Give a whole backup its name."""
    sync_directories(folder)
    folder.rename(path)


async def write_backup(engine: Engine, blobs: Blobs, clock: Clock, folder: Path) -> Manifest:
    async with holding_blobs(engine, clock):
        rows = await asyncio.to_thread(write_rows, engine, folder, int(clock.now()))
        manifest = await copy_blobs(blobs, folder, rows)
    refuse_no_bytes(manifest)
    write_manifest(folder, manifest)
    return manifest


def refuse_no_bytes(manifest: Manifest) -> None:
    """That no file has its bytes tells of a wrong setting."""
    if manifest.missing_blobs and manifest.missing_blobs == manifest.blobs.lines:
        raise StartError(
            "None of the files has its bytes where the settings say they are (storage.url, data_dir): nothing was backed up."
        )


@dataclass
class Hold:
    """What keeps blobs from being removed, until when; `lapsed` tells that it did not do so all the time."""

    name: str
    due_at: float
    lapsed: bool = False


@asynccontextmanager
async def holding_blobs(engine: Engine, clock: Clock) -> AsyncGenerator[None]:
    """No blob is removed as long as the block lasts, and a few minutes longer should this process die.

    Raises StartError at its end when that could not be kept up.
    """
    held = Hold(HELD + secrets.token_hex(16), clock.now() + HELD_FOR)
    await asyncio.to_thread(hold, engine, held)
    renewing = asyncio.create_task(keep_holding(engine, held, clock))
    try:
        yield
        if held.lapsed or clock.now() > held.due_at:
            raise StartError(LAPSED)
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        await asyncio.to_thread(let_go, engine, held.name)


def hold(engine: Engine, held: Hold) -> None:
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(insert(StrayBlobRow).values(key=held.name, due_at=held.due_at))


async def keep_holding(engine: Engine, held: Hold, clock: Clock) -> None:
    """A renewal that fails is tried again at the next one's time, which comes before the hold lapses."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        with suppress(SQLAlchemyError):
            await asyncio.to_thread(renew, engine, held, clock)


def renew(engine: Engine, held: Hold, clock: Clock) -> None:
    now = clock.now()
    with connect(engine, write=True) as connection, connection.begin():
        own = update(StrayBlobRow).where(StrayBlobRow.key == held.name)
        there = connection.execute(own.values(due_at=now + HELD_FOR)).rowcount
    held.lapsed |= now > held.due_at or not there
    held.due_at = now + HELD_FOR


def let_go(engine: Engine, name: str) -> None:
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(delete(StrayBlobRow).where(StrayBlobRow.key == name))


def write_rows(engine: Engine, folder: Path, now: int) -> Manifest:
    """All rows, and a list of the blobs that they refer to."""
    with snapshot(engine) as connection, (folder / KEYS).open("w") as keys:
        tables = tables_of(connection)
        written = {table.name: write_table(connection, table, folder, keys) for table in tables}
        revision = revision_of(connection)
        assert revision is not None  # who opened the database has seen it
        return Manifest(
            version=__version__,
            schema_revision=revision,
            database=engine.dialect.name,
            created_at=now,
            tables=written,
            numbers=numbers_of(connection, tables),
            blobs=NOTHING,
            blob_bytes=0,
            missing_blobs=0,
        )


def write_table(connection: Connection, table: Table, folder: Path, keys: TextIO) -> Part:
    rows = noting_blobs(records_of(connection, table), keys)
    return write_lines(folder, f"{ROWS}/{table.name}.jsonl.gz", rows)


def noting_blobs(records: Iterator[Record], keys: TextIO) -> Iterator[Record]:
    for record in records:
        keys.writelines(f"{key}\n" for key in blobs_in(record))
        yield record


async def copy_blobs(blobs: Blobs, folder: Path, manifest: Manifest) -> Manifest:
    """Copy what is on the list of keys, and write the list of blobs."""
    entries = folder / "entries"
    total = missing = 0
    with (folder / KEYS).open() as keys, entries.open("wb") as listed:
        lines = (line.rstrip("\n") for line in keys)
        for some in batches(lines, AT_ONCE):
            for entry in await asyncio.gather(*(copy_blob(blobs, key, folder) for key in some)):
                total += entry.bytes
                missing += entry.sha256 is None
                listed.write(orjson.dumps(entry.model_dump()) + b"\n")
    with entries.open("rb") as listed:
        part = write_lines(folder, "blobs.jsonl.gz", map(orjson.loads, listed))
    for done in (folder / KEYS, entries):
        done.unlink()
    about = {"blobs": part, "blob_bytes": total, "missing_blobs": missing}
    return manifest.model_copy(update=about)


async def copy_blob(blobs: Blobs, key: str, folder: Path) -> BlobEntry:
    path = folder / BLOBS / key
    try:
        with hashed_file(path) as file:
            async for piece in blobs.read([key]):
                await asyncio.to_thread(file.write, piece)
    except BlobMissing:
        path.unlink()
        return BlobEntry(key=key)
    return BlobEntry(key=key, bytes=file.bytes, sha256=file.sha256)


def batches(keys: Iterator[str], size: int) -> Iterator[list[str]]:
    while some := list(islice(keys, size)):
        yield some
