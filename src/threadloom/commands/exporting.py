"""`threadloom export`: what `import` reads, as the API shows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from threadloom.api import assistants, threads, vector_store_files, vector_stores
from threadloom.api.context import page_of
from threadloom.archive.writing import Writer, place_of, writing
from threadloom.blobs import Blobs, open_blobs
from threadloom.commands.database import open_database
from threadloom.commands.importing import Bar
from threadloom.commands.projects import existing_project
from threadloom.config import Settings
from threadloom.db.columns import dumps
from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import MessageRow, RunRow, RunStepRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.errors import BlobMissing, NotFound, StartError, Unavailable
from threadloom.files.actions import page_files, show_file
from threadloom.types.assistants import Assistant
from threadloom.types.files import File
from threadloom.types.messages import Message
from threadloom.types.run_steps import RunStep
from threadloom.types.runs import Run
from threadloom.types.shared import Sent
from threadloom.types.threads import Thread
from threadloom.types.vector_stores import VectorStore, VectorStoreFile

PAGE = 500
Read = Callable[[ProjectTx, PageQuery], Rows]


@dataclass(frozen=True)
class Kind:
    """Objects of one kind, and how they are read."""

    name: str
    sent: type[Sent]
    read: Read


def messages(tx: ProjectTx, query: PageQuery) -> Rows:
    return tx.page(MessageRow, query)


def runs(tx: ProjectTx, query: PageQuery) -> Rows:
    return tx.page(RunRow, query)


def run_steps(tx: ProjectTx, query: PageQuery) -> Rows:
    return tx.page(RunStepRow, query)


def files(tx: ProjectTx, query: PageQuery) -> Rows:
    return page_files(tx, query, None)


FILES = Kind("files", File, files)
STORES = Kind("vector_stores", VectorStore, vector_stores.page)
OTHERS = (
    Kind("assistants", Assistant, assistants.page),
    Kind("threads", Thread, threads.page),
    Kind("messages", Message, messages),
    Kind("runs", Run, runs),
    Kind("run_steps", RunStep, run_steps),
)


@dataclass(frozen=True)
class Exported:
    """How many objects of each kind were written, and the ids of the files whose bytes were not there."""

    counts: dict[str, int]
    lost: list[str]


async def export(settings: Settings, path: Path, *, project: str) -> Exported:
    """Raises StartError."""
    async with open_database(settings) as database:
        project_id = await database.read(existing_project, project)
        with writing(path) as writer, Bar("Exporting", None) as bar:
            job = Export(database.project(project_id), open_blobs(settings), writer, bar)
            try:
                return Exported(await job.run(), job.lost)
            except Unavailable as error:
                raise StartError(error.message) from None


@dataclass(frozen=True)
class Export:
    """What is exported, and where to."""

    database: ProjectDatabase
    blobs: Blobs
    writer: Writer
    advance: Callable[[int], None]
    lost: list[str] = field(default_factory=list[str])
    """Files whose bytes are not there."""

    async def run(self) -> dict[str, int]:
        counts = {"files": await self._files()}
        stores: list[str] = []
        counts["vector_stores"] = await self._objects(STORES, stores)
        counts["vector_store_files"] = await self._files_in_stores(stores)
        for kind in OTHERS:
            counts[kind.name] = await self._objects(kind)
        return counts

    async def _objects(self, kind: Kind, ids: list[str] | None = None) -> int:
        count = 0
        with self.writer.open(f"{kind.name}.jsonl") as file:
            async for page in self._pages(kind):
                await asyncio.to_thread(file.write, lines(page))
                count += len(page)
                if ids is not None:
                    ids.extend(one.id for one in page if isinstance(one, VectorStore))
        return count

    async def _pages(self, kind: Kind) -> AsyncIterator[list[Sent]]:
        async for rows in self._rows(kind.read):
            page = page_of(kind.sent, rows).data
            yield page
            self.advance(len(page))

    async def _rows(self, read: Read) -> AsyncIterator[Rows]:
        """Oldest first, and by their numbers: an object from which to go on may be deleted meanwhile."""
        query = PageQuery(limit=PAGE, order="asc")
        while True:
            found = await self.database.read(read, query)
            yield found
            if not found.has_more:
                return
            query = replace(query, place=found.rows[-1]["seq"])

    async def _files_in_stores(self, store_ids: list[str]) -> int:
        count = 0
        with self.writer.open("vector_store_files.jsonl") as file:
            for store_id in store_ids:
                with suppress(NotFound):  # it was deleted meanwhile
                    async for page in self._pages(Kind("", VectorStoreFile, files_of(store_id))):
                        await asyncio.to_thread(file.write, lines(page))
                        count += len(page)
        return count

    async def _files(self) -> int:
        count = await self._objects(FILES)
        async for found in self._rows(files):
            for row in found.rows:
                await self._content(row["id"], row["filename"], row["blobs"])
        return count

    async def _content(self, file_id: str, filename: str, keys: list[str]) -> None:
        pieces = self.blobs.read(keys)
        try:
            first = await anext(pieces, b"")
            with self.writer.open(place_of(file_id, filename)) as file:
                await asyncio.to_thread(file.write, first)
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
        except BlobMissing:
            with suppress(NotFound):  # it was deleted meanwhile
                await self.database.read(show_file, file_id)
                self.lost.append(file_id)


def files_of(store_id: str) -> Read:
    def read(tx: ProjectTx, query: PageQuery) -> Rows:
        return vector_store_files.page(tx, store_id, query, None)

    return read


def lines(objects: list[Sent]) -> bytes:
    return "".join(dumps(one.model_dump(mode="json")) + "\n" for one in objects).encode()
