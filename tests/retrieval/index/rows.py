"""Vector stores with chunks, written past the API: what an index is built from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select, update

from threadloom.api.keys import ensure_project
from threadloom.db.database import Database
from threadloom.db.rows import ChunkRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.index import StoreState
from threadloom.retrieval.terms import pack_terms
from threadloom.types.vector_stores import Attributes, AttributeValue, StaticChunking

MODEL = "test-model"
ATTRIBUTES: TypeAdapter[Attributes] = TypeAdapter(Attributes)
Windows = NDArray[np.float32]


@dataclass(frozen=True)
class FileData:
    """A file to be written: the windows and the text of each of its chunks."""

    chunks: Sequence[Windows]
    texts: Sequence[str] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    model: str = MODEL


def new_store(tx: Tx) -> str:
    store = VectorStoreRow(
        id=tx.ids.new("vs_"),
        created_at=tx.now,
        project_id=ensure_project(tx),
        last_active_at=tx.now,
        metadata_={},
    )
    tx.session.add(store)
    return store.id


def state(tx: Tx, store_id: str) -> StoreState:
    generation = tx.session.scalar(
        select(VectorStoreRow.generation).where(VectorStoreRow.id == store_id)
    )
    return StoreState(store_id, generation or 0)


def add_files(tx: Tx, store_id: str, files: Sequence[FileData]) -> list[int]:
    """Their `seq`s; the store's generation is raised once."""
    project = ensure_project(tx)
    rows = [file_row(tx, project, store_id, file) for file in files]
    tx.session.add_all(rows)
    tx.session.flush()
    chunks = [
        chunk_values(row.seq, position, windows, file.texts[position] if file.texts else "")
        for row, file in zip(rows, files, strict=True)
        for position, windows in enumerate(file.chunks)
    ]
    if chunks:
        tx.session.connection().execute(insert(ChunkRow), chunks)
    raise_generation(tx, store_id)
    return [row.seq for row in rows]


def file_row(tx: Tx, project: str, store_id: str, file: FileData) -> VectorStoreFileRow:
    file_id = tx.ids.new("file-")
    dimensions = next((windows.shape[1] for windows in file.chunks), None)
    return VectorStoreFileRow(
        id=f"{store_id}/{file_id}",
        created_at=tx.now,
        project_id=project,
        vector_store_id=store_id,
        file_id=file_id,
        status="completed",
        usage_bytes=sum(2 * windows.size for windows in file.chunks),
        attributes=ATTRIBUTES.validate_python(file.attributes),
        chunking_strategy=StaticChunking(),
        embedding_model=file.model,
        dimensions=dimensions,
    )


def chunk_values(file: int, position: int, windows: Windows, text: str) -> dict[str, object]:
    return {
        "store_file_seq": file,
        "position": position,
        "text": text,
        "start": 0,
        "end": len(text),
        "vectors": windows.astype("<f2").tobytes(),
        "terms": pack_terms(text),
    }


def remove_files(tx: Tx, store_id: str, seqs: Sequence[int]) -> None:
    tx.session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.seq.in_(seqs)))
    raise_generation(tx, store_id)


def embed_again(
    tx: Tx, store_id: str, seq: int, chunks: Sequence[Windows], model: str | None
) -> None:
    """New chunks in the place of a file's old ones, without a new lease."""
    tx.session.execute(delete(ChunkRow).where(ChunkRow.store_file_seq == seq))
    tx.session.connection().execute(
        insert(ChunkRow),
        [chunk_values(seq, at, windows, "again") for at, windows in enumerate(chunks)],
    )
    tx.session.execute(
        update(VectorStoreFileRow)
        .where(VectorStoreFileRow.seq == seq)
        .values(embedding_model=model, dimensions=chunks[0].shape[1] if model else None)
    )
    raise_generation(tx, store_id)


def set_status(tx: Tx, store_id: str, seq: int, status: str) -> None:
    tx.session.execute(
        update(VectorStoreFileRow).where(VectorStoreFileRow.seq == seq).values(status=status)
    )
    raise_generation(tx, store_id)


def raise_generation(tx: Tx, store_id: str) -> None:
    tx.session.execute(
        update(VectorStoreRow)
        .where(VectorStoreRow.id == store_id)
        .values(generation=VectorStoreRow.generation + 1)
    )


@dataclass(frozen=True)
class Filled:
    """A store that is being filled."""

    database: Database
    id: str

    async def state(self) -> StoreState:
        return await self.database.read(state, self.id)

    async def add(self, *files: FileData) -> list[int]:
        return await self.database.write(add_files, self.id, files)

    async def remove(self, *seqs: int) -> None:
        await self.database.write(remove_files, self.id, seqs)


async def filled_store(database: Database, *files: FileData) -> Filled:
    store = Filled(database, await database.write(new_store))
    if files:
        await store.add(*files)
    return store


def clustered(
    chance: np.random.Generator, count: int, dimensions: int, spread: float = 0.5
) -> Windows:
    """Unit vectors around a few centres, as texts on a few subjects have them."""
    centres = unit(normal(chance, max(1, count // 50), dimensions))
    noise = normal(chance, count, dimensions) * np.float32(spread / dimensions**0.5)
    return unit(centres[chance.integers(0, len(centres), count)] + noise)


def normal(chance: np.random.Generator, count: int, dimensions: int) -> Windows:
    return chance.standard_normal((count, dimensions), np.float32)


def unit(vectors: NDArray[np.floating]) -> Windows:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
