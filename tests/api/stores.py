"""Vector stores made with raw HTTP, and ingestion that is said to be done."""

from collections.abc import Sequence
from typing import Any, Literal

import httpx2
from sqlalchemy import func, insert, select

from tests.api.wire import Json, make_file, post
from tests.support.server import Running
from threadloom.db.rows import ChunkRow, StrayChunksRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.stores import raise_generation, row_id
from threadloom.types.vector_stores import FileError

NO_FILES: Json = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}
AUTO: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}


def counts(**files: int) -> Json:
    return NO_FILES | files | {"total": sum(files.values())}


async def make_store(http: httpx2.AsyncClient, **fields: Any) -> Json:
    return await post(http, "/vector_stores", fields)


async def attach(http: httpx2.AsyncClient, store_id: str, file_id: str, **fields: Any) -> Json:
    return await post(http, f"/vector_stores/{store_id}/files", {"file_id": file_id, **fields})


async def make_files(http: httpx2.AsyncClient, number: int) -> list[str]:
    return [(await make_file(http, name=f"{n}.txt"))["id"] for n in range(number)]


async def ingest(server: Running, store_id: str, file_id: str, *texts: str) -> None:
    """What ingestion does in the end; a chunk is a text that follows the one before."""
    await server.database.write(finish, row_id(store_id, file_id), place(texts))


async def fail(server: Running, store_id: str, file_id: str) -> None:
    await server.database.write(finish, row_id(store_id, file_id), [], "failed")


def place(texts: Sequence[str]) -> list[tuple[int, str]]:
    ends = [sum(map(len, texts[: n + 1])) for n in range(len(texts))]
    return [(end - len(text), text) for end, text in zip(ends, texts, strict=True)]


async def ingest_at(server: Running, store_id: str, file_id: str, *chunks: tuple[int, str]) -> None:
    """The same with the places of the chunks, which may overlap."""
    await server.database.write(finish, row_id(store_id, file_id), chunks)


def finish(
    tx: Tx,
    row: str,
    chunks: Sequence[tuple[int, str]],
    status: Literal["completed", "failed"] = "completed",
) -> None:
    file = tx.session.scalars(select(VectorStoreFileRow).where(VectorStoreFileRow.id == row)).one()
    raise_generation(tx, file.vector_store_id)
    file.status = status
    file.due_at = None
    file.usage_bytes = sum(len(text) for _, text in chunks)
    file.progress = 1.0 if status == "completed" else 0.0
    if status == "failed":
        file.last_error = FileError(code="invalid_file", message="The file is empty.")
    rows = [chunk_values(file.seq, n, *chunk) for n, chunk in enumerate(chunks)]
    if rows:
        tx.session.connection().execute(insert(ChunkRow), rows)


def chunk_values(seq: int, position: int, start: int, text: str) -> dict[str, object]:
    return {
        "store_file_seq": seq,
        "position": position,
        "text": text,
        "start": start,
        "end": start + len(text),
        "vectors": b"",
        "terms": b"",
    }


async def generation(server: Running, store_id: str) -> int | None:
    def look(tx: Tx) -> int | None:
        return tx.session.scalar(
            select(VectorStoreRow.generation).where(VectorStoreRow.id == store_id)
        )

    return await server.database.read(look)


async def chunks_and_strays(server: Running) -> tuple[int, int]:
    """How many chunks there are, and how many files whose chunks are to be removed."""

    def look(tx: Tx) -> tuple[int, int]:
        kinds = (ChunkRow, StrayChunksRow)
        chunks, strays = (
            tx.session.scalar(select(func.count()).select_from(kind)) or 0 for kind in kinds
        )
        return chunks, strays

    return await server.database.read(look)
