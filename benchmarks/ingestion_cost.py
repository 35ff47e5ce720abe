"""What ingestion costs beside the embedder: processor time a chunk, all processes, with an embedder that answers at once.

    python -m benchmarks.ingestion_cost [--megabytes 20]

Text of English words in files of one megabyte, cut into 800 tokens with 400 of overlap, on SQLite.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import uvloop
from sqlalchemy import func, select

from benchmarks.figures import Figure, table
from threadloom.api.keys import ensure_project
from threadloom.blobs import open_blobs
from threadloom.clock import SystemClock
from threadloom.config import FileSearch, Settings
from threadloom.db.database import Database
from threadloom.db.migrate import upgrade
from threadloom.db.rows import ChunkRow, FileRow, VectorStoreFileRow
from threadloom.db.tx import ProjectTx, Tx
from threadloom.ids import RandomIds
from threadloom.retrieval.embedder import Vector, Windows
from threadloom.retrieval.ingest import Ingestion
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.retrieval.stores import attach, new_store
from threadloom.types.vector_stores import FileCreate

DIMENSIONS = 384
MEGABYTE = 1_000_000
SENTENCES = (
    "The pump of line {0} was serviced by crew {1}, who found its filter worn after {2} hours of work. ",
    "Before the valve is opened, the pressure must stand below {1} bar for {0} minutes at least. ",
    "Spare parts are kept in hall {2}, on the shelf beside the door, and are counted each Friday. ",
)


class InstantEmbedder:
    """The same vector for everything."""

    model = "instant"

    def __init__(self) -> None:
        vector = np.ones((1, DIMENSIONS), np.float32)
        self._windows: Windows = vector / np.float32(DIMENSIONS**0.5)

    def weight_for(self, query: str) -> float:
        del query
        return 0.5

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        return [self._windows] * len(texts)

    async def embed_query(self, text: str) -> Vector:
        del text
        return self._windows[0]

    async def close(self) -> None:
        pass


def prose(number: int) -> bytes:
    """A megabyte; no two alike."""
    sentences: list[str] = []
    size = 0
    while size < MEGABYTE:
        place = len(sentences)
        sentence = SENTENCES[place % len(SENTENCES)].format(
            number + place, place % 13, place * 7 % 997
        )
        sentences.append(sentence)
        size += len(sentence)
    return "".join(sentences).encode()


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


def make_file(tx: ProjectTx, key: str, size: int) -> str:
    file = FileRow(
        id=tx.ids.new("file-"),
        project_id=tx.project_id,
        created_at=tx.now,
        purpose="assistants",
        filename="prose.txt",
        bytes=size,
        blobs=[key],
    )
    tx.session.add(file)
    return file.id


def make_store(tx: ProjectTx, file_ids: Sequence[str]) -> None:
    store = new_store(tx)
    attach(tx, store.id, [FileCreate(file_id=one) for one in file_ids], tables=False)


def unfinished(tx: Tx) -> int:
    counting = select(func.count()).where(VectorStoreFileRow.status != "completed")
    return tx.session.scalar(counting) or 0


def count_chunks(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(ChunkRow)) or 0


def cpu() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usages)


async def measured(folder: Path, megabytes: int) -> list[Figure]:
    settings = Settings(data_dir=folder)
    database = Database(f"sqlite:///{folder}/threadloom.db", clock=SystemClock(), ids=RandomIds())
    upgrade(database.engine)
    blobs = open_blobs(settings)
    project = database.project(await database.write(ensure_project))
    file_ids: list[str] = []
    for number in range(megabytes):
        key, content = blobs.new_key(), prose(number)
        await blobs.write(key, pieces(content))
        file_ids.append(await project.write(make_file, key, len(content)))
    await project.write(make_store, file_ids)
    parsers = Parsers(settings.file_search)
    ingestion = Ingestion(
        database,
        blobs,
        parsers,
        InstantEmbedder(),
        FileSearch(),
        folder=folder / "tmp",
        lease=15.0,
    )
    spent, began = cpu(), time.perf_counter()
    working = asyncio.create_task(ingestion.run())
    while await database.read(unfinished):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    ingestion.drain()
    await working
    await parsers.close()
    spent = cpu() - spent
    chunks = await database.read(count_chunks)
    await database.close()
    return [
        Figure("chunks", chunks, ""),
        Figure("ingestion with an instant embedder, CPU a chunk", spent / chunks * 1e3, "ms"),
        Figure("one megabyte, wall", seconds / megabytes, "s"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingestion_cost")
    parser.add_argument("--megabytes", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(table(uvloop.run(measured(Path(directory), options.megabytes))))
