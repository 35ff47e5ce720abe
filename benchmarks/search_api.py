"""A search over HTTP beside the bare FAISS scan of the same vectors and the embedder alone.

    python -m benchmarks.search_api [--size 100000] [--rounds 200]

The server's own figures: from the request to its answer, one client, every query another one. Its embedder is the embedded
model, so its time for a query is measured alone too and taken off.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import uvloop
from sqlalchemy import select, update

from benchmarks.figures import Figure, table
from benchmarks.load import Connection, connected, request
from benchmarks.processes import server
from benchmarks.search import (
    DIMENSIONS,
    MS,
    OF_FILE,
    Vectors,
    add_file,
    add_store,
    bare,
    cost,
    some_texts,
    some_vectors,
)
from threadloom.api.keys import ensure_project
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.migrate import upgrade
from threadloom.db.rows import FileRow, VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.retrieval.embedded_embedder import EmbeddedEmbedder
from threadloom.retrieval.minilm import MODEL

PORT_OF_NOBODY = 9
"""There is no model to ask: nothing but searches goes on."""
PREPARING = 10.0
"""Seconds in which a large index is packed, in the background."""


async def filled(folder: Path, vectors: Vectors, chance: np.random.Generator) -> str:
    """A database with one store of these vectors, as if the embedded model had made them; answers with its id."""
    folder.mkdir()  # noqa: ASYNC240 - nothing else goes on
    database = Database(f"sqlite:///{folder}/threadloom.db", clock=SystemClock(), ids=RandomIds())
    upgrade(database.engine)
    store_id = await database.write(add_store)
    for at in range(0, len(vectors), OF_FILE):
        texts = list(some_texts(chance, OF_FILE))
        await database.write(add_file, store_id, vectors[at : at + OF_FILE], texts)
    await database.write(make_files)
    await database.close()
    return store_id


def make_files(tx: Tx) -> None:
    """What the store's rows refer to."""
    for file_id in tx.session.scalars(select(VectorStoreFileRow.file_id)):
        tx.session.add(
            FileRow(
                id=file_id,
                project_id=ensure_project(tx),
                created_at=tx.now,
                purpose="assistants",
                filename="document.txt",
                bytes=0,
                blobs=[],
            )
        )
    tx.session.execute(update(VectorStoreFileRow).values(embedding_model=MODEL))


def question(number: int) -> str:
    return f"What does w{number * 7 + 100} have to do with w{number * 50 % 20_000} and w{number + 900}?"


async def embedding(rounds: int) -> list[Figure]:
    embedder = EmbeddedEmbedder()
    try:
        return (await cost(lambda number: embedder.embed_query(question(number)), rounds)).figures(
            "embedding the question alone"
        )
    finally:
        await embedder.close()


async def search(connection: Connection, store_id: str, number: int) -> float:
    body = {"query": question(number), "max_num_results": 10}
    path = f"/v1/vector_stores/{store_id}/search"
    return await connection.timed(request("POST", path, body))


async def over_http(folder: Path, store_id: str, rounds: int) -> list[Figure]:
    with server(PORT_OF_NOBODY, folder) as serving:
        async with connected(serving.port) as connection:
            first = await search(connection, store_id, 0)
        await asyncio.sleep(PREPARING)
        async with connected(serving.port) as connection:
            for number in range(20):
                await search(connection, store_id, number)
            before = serving.cpu()
            walls = [await search(connection, store_id, number) for number in range(rounds)]
            cpu = (serving.cpu() - before) / rounds
    return [
        Figure("search over HTTP, the first one", first * MS, "ms"),
        Figure("search over HTTP, p50", median(walls) * MS, "ms"),
        Figure("search over HTTP, CPU", cpu * MS, "ms"),
    ]


async def measured(size: int, rounds: int) -> list[Figure]:
    chance = np.random.default_rng(size)
    vectors = some_vectors(chance, size)
    queries = vectors[chance.integers(0, size, rounds)]
    figures = [
        *await bare(f"{size:,} x {DIMENSIONS}", vectors, queries),
        *await embedding(rounds),
    ]
    with tempfile.TemporaryDirectory() as folder:
        store_id = await filled(Path(folder) / "data", vectors, chance)
        del vectors, queries
        figures += await over_http(Path(folder), store_id, rounds)
    scan, embedded, served = figures[0].value, figures[2].value, figures[5].value
    return [*figures, Figure("search over HTTP, beyond both", served - scan - embedded, "ms")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_api")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    print(table(uvloop.run(measured(options.size, options.rounds))))
