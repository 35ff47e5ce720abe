"""Takes files into vector stores: parse, embed, store; a leased job like a run.

Chunks are committed some at a time, each in its place. A worker that takes over a file finds how far the lost one came and
goes on from there; a file is searchable only once its last chunk and its completion are committed together.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import structlog
from sqlalchemy import bindparam, delete, func, select, update

from threadloom import faults
from threadloom.blobs import Blobs
from threadloom.config import FileSearch
from threadloom.db.database import Database
from threadloom.db.insert import insert_missing
from threadloom.db.rows import ChunkRow, FileRow, VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.errors import BlobMissing, StorageUnavailable
from threadloom.leases import Claim, LeaseLost, hold
from threadloom.queue import AbortReason, Held, Queue
from threadloom.retrieval.embedder import Embedder, EmbeddingError, Windows
from threadloom.retrieval.parsing import Chunk, Parsed, Parser, ParserUnavailable, UnreadableFile
from threadloom.retrieval.stores import INGESTION, discard_chunks, raise_generation
from threadloom.telemetry import metrics
from threadloom.types.vector_stores import FileError, FileErrorCode, StaticChunking
from threadloom.webhooks.stores import files_ended

P = ParamSpec("P")
R = TypeVar("R")

MAX_CLAIMS = 20
"""Claims of a file that gets no further: one that takes its worker down shall not do so for ever."""
MAX_TRIES = 5
"""The same, when it is the embedder, the storage or a parser's start that fails."""
FIRST_PAUSE = 2.0
"""Seconds before a file whose embedder did not answer is tried again; doubled each time."""
FORGOTTEN = 500
"""Chunks that are removed in one transaction, which others wait for."""
WRITES = 2
"""Transactions of ingestion that wait for the database at once."""
HOUR = 3_600.0
VECTORS = np.dtype("<f2")
FILE = (
    select(FileRow.filename, FileRow.blobs)
    .where(FileRow.id == bindparam("file_id"))
    .where(FileRow.project_id == bindparam("project_id"))
)
CHUNKS = ChunkRow.store_file_seq == bindparam("seq")
LAST_CHUNK = (
    select(ChunkRow.position, ChunkRow.text)
    .where(CHUNKS)
    .order_by(ChunkRow.position.desc())
    .limit(1)
)
LAST_CHUNKS = select(ChunkRow.seq).where(CHUNKS).order_by(ChunkRow.position.desc()).limit(FORGOTTEN)
BYTES = select(
    func.sum(
        func.length(ChunkRow.text) + func.length(ChunkRow.vectors) + func.length(ChunkRow.terms)
    )
).where(CHUNKS)
COMPLETE = (
    update(VectorStoreFileRow)
    .where(VectorStoreFileRow.id == bindparam("held_id"))
    .where(VectorStoreFileRow.epoch == bindparam("held_epoch"))
    .where(VectorStoreFileRow.due_at.is_not(None))
    .values(
        status="completed",
        progress=1.0,
        due_at=None,
        usage_bytes=bindparam("usage"),
        dimensions=bindparam("size"),
    )
)
log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """A claimed file, and the chunks of it that are stored already."""

    claim: Claim
    store_id: str
    seq: int
    filename: str
    blobs: list[str]
    chunking: StaticChunking
    stored: int
    last_text: str | None


@dataclass(frozen=True)
class Embedded:
    """Chunks with their vectors; `first` is the position of the first of them."""

    first: int
    chunks: Sequence[Chunk]
    windows: Sequence[Windows]
    progress: float

    @property
    def dimensions(self) -> int:
        return self.windows[0].shape[1]

    @property
    def usage(self) -> int:
        """Bytes that the rows take, as `BYTES` counts them."""
        texts = sum(len(chunk.text) + len(chunk.terms) for chunk in self.chunks)
        return texts + sum(windows.size for windows in self.windows) * VECTORS.itemsize

    def rows(self, store_file_seq: int) -> list[tuple[Any, ...]]:
        """Values in the order of the columns of `chunks`, after its own number."""
        return [
            (
                store_file_seq,
                self.first + offset,
                chunk.text,
                chunk.start,
                chunk.end,
                chunk.page,
                chunk.heading,
                windows.astype(VECTORS).tobytes(),
                chunk.terms,
            )
            for offset, (chunk, windows) in enumerate(zip(self.chunks, self.windows, strict=True))
        ]


class ChangedText(Exception):
    """The stored chunks are not those of this document as it is parsed now."""


class Ingestion:
    """Ingests what is due, some files at a time."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        parser: Parser,
        embedder: Embedder,
        settings: FileSearch,
        *,
        folder: Path,
        lease: float,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._parser = parser
        self._embedder = embedder
        self._folder = folder
        self._writing = asyncio.Semaphore(WRITES)
        self._queue = Queue(
            database,
            VectorStoreFileRow,
            INGESTION,
            self._drive,
            concurrency=settings.ingestions,
            lease=lease,
        )

    async def run(self) -> None:
        """Work until drained."""
        with suppress(OSError):  # the sweep of each minute tells of it
            await self.sweep()
        await self._queue.run()

    async def sweep(self) -> None:
        """Remove the copies of documents that processes left which were killed."""
        await asyncio.to_thread(make_clean, self._folder, self._database.clock.now() - HOUR)

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._queue.drain()

    async def _drive(self, held: Held) -> None:
        if held.reason is None:
            await held.perform(self._ingest(held.claim))
        if held.reason is AbortReason.SHUTDOWN:
            await self._write(hand_back, held.claim)

    async def _ingest(self, claim: Claim) -> None:
        faults.point("ingestion.claimed")
        job = await self._write(begin, claim, self._embedder.model)
        if job is None:
            return
        try:
            with metrics.INGESTIONS.timed():
                await self._take_in(job)
            metrics.INGESTED_FILES.add(outcome="completed")
        except ChangedText:
            await self._write(start_over, claim)
        except UnreadableFile as error:
            metrics.INGESTED_FILES.add(outcome="failed")
            await self._write(fail, claim, error.code, error.message)
        except (EmbeddingError, ParserUnavailable, BlobMissing, StorageUnavailable) as error:
            metrics.INGESTED_FILES.add(outcome="retried")
            log.warning("ingestion is tried again", id=claim.id, error=type(error).__name__)
            await self._write(try_again, claim, str(error))

    async def _take_in(self, job: Job) -> None:
        """Parse, embed and store; what is embedded last is stored together with the file's completion."""
        held_back: Embedded | None = None
        copy = self._folder / f"{job.seq}-{job.claim.epoch}"
        async with (
            self._blobs.as_file(job.blobs, copy) as document,
            aclosing(self._parser.parse(document, job.filename, job.chunking)) as parsed,
        ):
            async for embedded in self._embedded(job, ahead(parsed)):
                if held_back is not None:
                    await self._write(store, job, held_back)
                    faults.point("ingestion.stored")
                held_back = embedded
        faults.point("ingestion.completing")
        await self._write(complete, job, held_back)

    async def _write(
        self, action: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """A few at a time: what runs and requests want to write is not to wait behind all files at once."""
        async with self._writing:
            return await self._database.write(action, *args, **kwargs)

    async def _embedded(self, job: Job, parsed: AsyncIterator[Parsed]) -> AsyncIterator[Embedded]:
        """The document's chunks that are not stored yet. Raises ChangedText."""
        position = 0
        async for group in parsed:
            known = max(0, min(job.stored - position, len(group.chunks)))
            if known and position + known == job.stored:
                refuse_other_text(group.chunks[known - 1], job.last_text)
            position += len(group.chunks)
            if chunks := group.chunks[known:]:
                faults.point("ingestion.parsed")
                windows = await self._embedder.embed_passages([chunk.text for chunk in chunks])
                metrics.INGESTED_CHUNKS.add(len(chunks))
                yield Embedded(position - len(chunks), chunks, windows, group.progress)
        if position < job.stored:
            raise ChangedText


async def ahead(parsed: AsyncIterator[Parsed]) -> AsyncIterator[Parsed]:
    """Each group once the next one was read: a short document is read, and its parser free, before it is embedded."""
    held: Parsed | None = None
    async for group in parsed:
        if held is not None:
            yield held
        held = group
    if held is not None:
        yield held


def make_clean(folder: Path, before: float) -> None:
    """Make the folder for documents, and remove older copies of some; folders are nobody's copies."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may do the same
            if left.stat().st_mtime < before and not left.is_dir():
                left.unlink()


def refuse_other_text(chunk: Chunk, stored: str | None) -> None:
    if chunk.text != stored:
        raise ChangedText


def begin(tx: Tx, claim: Claim, model: str) -> Job | None:
    """What there is to do for a claimed file; None when it was tried too often, is gone, or has more to forget. Raises LeaseLost."""
    row = hold(tx, VectorStoreFileRow, claim)
    wanted = {"file_id": row.file_id, "project_id": row.project_id}
    file = tx.session.execute(FILE, wanted).one_or_none()
    if file is None:
        close(tx, row, "invalid_file", "The file was deleted before it was processed.")
        return None
    if row.attempts == MAX_CLAIMS:
        close(tx, row, "server_error", f"Processing was begun {MAX_CLAIMS} times and broke off.")
        return None
    if row.embedding_model != model and row.progress and not forget_chunks(tx, row):
        release(tx, row)
        return None
    # One UPDATE: of a second one PostgreSQL would ask for the store, which its deletion may hold.
    row.embedding_model = model
    row.attempts += 1
    last = tx.session.execute(LAST_CHUNK, {"seq": row.seq}).one_or_none() if row.progress else None
    return Job(
        claim=claim,
        store_id=row.vector_store_id,
        seq=row.seq,
        filename=file.filename,
        blobs=file.blobs,
        chunking=row.chunking_strategy,
        stored=0 if last is None else last.position + 1,
        last_text=None if last is None else last.text,
    )


def store(tx: Tx, job: Job, embedded: Embedded) -> None:
    """Commit some chunks in their places. Raises LeaseLost."""
    row = hold(tx, VectorStoreFileRow, job.claim)
    insert_chunks(tx, row, embedded)
    row.attempts = 0  # what comes to its end by and by is not what takes workers down


def insert_chunks(tx: Tx, row: VectorStoreFileRow, embedded: Embedded) -> None:
    insert_missing(tx.session, ChunkRow, embedded.rows(row.seq))
    row.dimensions = embedded.dimensions
    row.progress = embedded.progress


def complete(tx: Tx, job: Job, last: Embedded | None) -> None:
    """Commit the last chunks; from here on the file is searched. Raises LeaseLost."""
    raise_generation(tx, job.store_id)  # the store is locked before the file in it
    if last is None or last.first:
        complete_longer(tx, job, last)
    else:
        complete_short(tx, job, last)
    files_ended(tx, [job.claim.id], "completed")
    tx.wake(job.store_id)


def complete_longer(tx: Tx, job: Job, last: Embedded | None) -> None:
    row = hold(tx, VectorStoreFileRow, job.claim)
    if last is not None:
        insert_chunks(tx, row, last)
    row.usage_bytes = tx.session.scalar(BYTES, {"seq": row.seq}) or 0
    row.status = "completed"
    row.progress = 1.0
    row.due_at = None


def complete_short(tx: Tx, job: Job, all_of_it: Embedded) -> None:
    """The same for thousands of small files, whose cost is these statements: the row is not loaded first."""
    values = {
        "held_id": job.claim.id,
        "held_epoch": job.claim.epoch,
        "usage": all_of_it.usage,
        "size": all_of_it.dimensions,
    }
    if not tx.session.connection().execute(COMPLETE, values).rowcount:
        raise LeaseLost(job.claim.id)
    insert_missing(tx.session, ChunkRow, all_of_it.rows(job.seq))


def fail(tx: Tx, claim: Claim, code: FileErrorCode, message: str) -> None:
    """The file cannot be taken in. Raises LeaseLost."""
    close(tx, hold(tx, VectorStoreFileRow, claim), code, message)


def close(tx: Tx, row: VectorStoreFileRow, code: FileErrorCode, message: str) -> None:
    discard_chunks(tx, VectorStoreFileRow.seq == row.seq)
    row.status = "failed"
    row.last_error = FileError(code=code, message=message)
    row.due_at = None
    files_ended(tx, [row.id], "failed")
    tx.wake(row.vector_store_id)


def try_again(tx: Tx, claim: Claim, reason: str) -> None:
    """Something that the file needs did not answer: later, or never when it was tried often. Raises LeaseLost."""
    row = hold(tx, VectorStoreFileRow, claim)
    if row.attempts >= MAX_TRIES:
        close(tx, row, "server_error", f"{reason} Tried {row.attempts} times.")
    else:
        release(tx, row, FIRST_PAUSE * 2 ** (row.attempts - 1))


def start_over(tx: Tx, claim: Claim) -> None:
    """The stored chunks are of no model any more: whoever claims the file next forgets them. Raises LeaseLost."""
    row = hold(tx, VectorStoreFileRow, claim)
    row.embedding_model = None
    release(tx, row)


def forget_chunks(tx: Tx, row: VectorStoreFileRow) -> bool:
    """Remove some of the stored chunks, the last ones first: what is left is a beginning. Whether that was all."""
    chunks = tx.session.scalars(LAST_CHUNKS, {"seq": row.seq}).all()
    tx.session.execute(delete(ChunkRow).where(ChunkRow.seq.in_(chunks)))
    if len(chunks) == FORGOTTEN:
        return False
    row.progress = 0.0
    return True


def hand_back(tx: Tx, claim: Claim) -> None:
    """Let the next worker go on at once; the attempt does not count. Raises LeaseLost."""
    row = hold(tx, VectorStoreFileRow, claim)
    row.attempts = max(row.attempts - 1, 0)
    release(tx, row)


def release(tx: Tx, row: VectorStoreFileRow, pause: float = 0.0) -> None:
    """The file is due again, after a pause of so many seconds."""
    row.epoch += 1  # a renewal that is under way shall not take it back
    row.due_at = tx.clock.now() + pause
    tx.wake(INGESTION)
