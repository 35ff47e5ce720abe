"""Bytes of files: where they are in an archive, and their way into the file storage."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from threadloom.archive.entries import DAMAGED, Entries, Entry
from threadloom.archive.saved import MADE_ID
from threadloom.archive.saved_files import (
    SavedFile,
)
from threadloom.archive.spool import Spool
from threadloom.archive.storing import Batch, Item, Outcome
from threadloom.blobs import Blobs
from threadloom.db.database import Database, ProjectDatabase
from threadloom.db.insert import insert_row
from threadloom.db.rows import FileRow
from threadloom.db.tx import ProjectTx
from threadloom.files.strays import keep, new_blob

PIECE = 1024 * 1024
Pieces = Callable[[], AsyncIterator[bytes]]


class NoContent(Exception):
    """The bytes of a file cannot be had; the text says why, for people."""


class Contents(Protocol):
    """Where bytes come from."""

    def find(self, file: SavedFile) -> str:
        """The place of a file's bytes. Raises NoContent."""
        ...

    def each(self, places: Sequence[str]) -> Iterator[tuple[str, Pieces]]:
        """What is at these places, as near to this order as can be; reading raises NoContent."""
        ...


class ArchivedContents:
    """Entries of an archive: `<file id>/<anything>`, `<file id>`, `<file id>.<ext>`, or the filename."""

    def __init__(self, entries: Entries, spool: Spool) -> None:
        self._entries = entries
        self._spool = spool

    def find(self, file: SavedFile) -> str:
        found = [
            *self._spool.contents_in(file.id),
            *self._spool.contents_named(file.id),
            *self._spool.contents_like(f"{file.id}."),
            *self._called(file),
        ]
        if not found:
            raise NoContent("its content is not in the archive")
        fitting = [path for path, size in found if size == file.bytes]
        if not fitting:
            path, size = found[0]
            raise NoContent(f"its content, {path}, has {size} bytes and not {file.bytes}")
        self._spool.use_content(fitting[0])
        return fitting[0]

    def _called(self, file: SavedFile) -> list[tuple[str, int]]:
        """Entries with the file's name, but not what lies in the folder of another file, also of one that the archive does not have."""
        named = self._spool.contents_named(file.filename)
        folders = {path: PurePosixPath(path).parent.name for path, _ in named}
        others = self._spool.known([*folders.values()])
        return [
            (path, size)
            for path, size in named
            if folders[path] not in others and not MADE_ID.fullmatch(folders[path])
        ]

    def each(self, places: Sequence[str]) -> Iterator[tuple[str, Pieces]]:
        for entry in self._entries.some(places):
            yield entry.path, lambda entry=entry: pieces_of(entry)


async def pieces_of(entry: Entry) -> AsyncIterator[bytes]:
    try:
        with await asyncio.to_thread(entry.open) as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
    except DAMAGED as error:
        raise NoContent(f"its content cannot be read: {type(error).__name__}") from None


@dataclass(frozen=True)
class Storage:
    """Where files go, and the largest that is taken."""

    database: Database
    project: ProjectDatabase
    blobs: Blobs
    max_bytes: int


def look_at_files(tx: ProjectTx, items: Sequence[Item]) -> tuple[Outcome, list[Item]]:
    """What is there already, and what is not."""
    batch = Batch(tx, frozenset(), write=False)
    new = batch.look(items)
    return batch.outcome, new


async def store_file(storage: Storage, item: Item, pieces: Pieces) -> None:
    """A file and its bytes, which belong to nothing until the file is there. Raises NoContent."""
    saved = item.saved
    assert isinstance(saved, SavedFile)
    try:
        async with new_blob(storage.database, storage.blobs) as key:
            size = await storage.blobs.write(key, at_most(saved.bytes, pieces()))
            if size != saved.bytes:
                raise NoContent(f"its content has {size} bytes and not {saved.bytes}")
            await storage.project.write(add_file, saved, key)
    except IntegrityError:
        raise NoContent("another import was faster") from None


async def at_most(size: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises NoContent as soon as there are more bytes."""
    async for piece in pieces:
        size -= len(piece)
        if size < 0:
            raise NoContent("its content has more bytes than it should")
        yield piece


def add_file(tx: ProjectTx, saved: SavedFile, key: str) -> None:
    keep(tx, key)
    values = saved.values(tx.now)
    insert_row(tx.session, FileRow(project_id=tx.project_id, blobs=[key], **values))
