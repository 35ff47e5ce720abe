"""Embeds the chunks of files anew that another model embedded: their texts stay, their vectors are replaced."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, and_, func, select, update

from threadloom.db.database import Database
from threadloom.db.rows import ChunkRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.embedder import Embedder, Windows
from threadloom.retrieval.stores import raise_generation

BATCH = 64


@dataclass(frozen=True)
class Progress:
    """How far a reindexing is, in files."""

    done: int
    total: int


async def reindex(database: Database, embedder: Embedder) -> AsyncIterator[Progress]:
    """Bring every completed file to this embedder; safe to stop at any point and to run again.

    Raises EmbeddingError.
    """
    files = await database.read(outdated_files, embedder.model)
    yield Progress(0, len(files))
    for done, seq in enumerate(files, start=1):
        await embed_file(database, embedder, seq)
        yield Progress(done, len(files))


def outdated_files(tx: Tx, model: str) -> Sequence[int]:
    return tx.session.scalars(outdated(model).order_by(VectorStoreFileRow.seq)).all()


def count_outdated(tx: Tx, model: str) -> int:
    """How many files there are to do."""
    return tx.session.scalars(select(func.count()).select_from(outdated(model).subquery())).one()


def outdated(model: str) -> Select[int]:
    """Completed files of another model, but for those of stores that expired: these have no chunks any more."""
    swept = and_(VectorStoreRow.sweep_at.is_(None), VectorStoreRow.expires_after.is_not(None))
    return (
        select(VectorStoreFileRow.seq)
        .join(VectorStoreRow, VectorStoreRow.id == VectorStoreFileRow.vector_store_id)
        .where(VectorStoreFileRow.status == "completed")
        .where(VectorStoreFileRow.embedding_model.is_distinct_from(model))
        .where(~swept)
    )


async def embed_file(database: Database, embedder: Embedder, seq: int) -> None:
    """Until its last vector is replaced, the file is found by its words only."""
    await database.write(set_model, seq, None, None)
    position, dimensions = 0, None
    while texts := await database.read(texts_from, seq, position):
        windows = await embedder.embed_passages(texts)
        await database.write(replace_vectors, seq, position, windows)
        position += len(texts)
        dimensions = windows[0].shape[1]
    await database.write(set_model, seq, embedder.model, dimensions)


def texts_from(tx: Tx, seq: int, position: int) -> Sequence[str]:
    return tx.session.scalars(
        select(ChunkRow.text)
        .where(ChunkRow.store_file_seq == seq, ChunkRow.position >= position)
        .order_by(ChunkRow.position)
        .limit(BATCH)
    ).all()


def replace_vectors(tx: Tx, seq: int, first: int, windows: Sequence[Windows]) -> None:
    for position, one in enumerate(windows, start=first):
        tx.session.execute(
            update(ChunkRow)
            .where(ChunkRow.store_file_seq == seq, ChunkRow.position == position)
            .values(vectors=one.astype("<f2").tobytes())
            .execution_options(synchronize_session=False)
        )


def set_model(tx: Tx, seq: int, model: str | None, dimensions: int | None) -> None:
    this = VectorStoreFileRow.seq == seq
    store_id = tx.session.scalar(select(VectorStoreFileRow.vector_store_id).where(this))
    if store_id is not None:
        raise_generation(tx, store_id)
        tx.session.execute(
            update(VectorStoreFileRow)
            .where(this)
            .values(
                embedding_model=model, dimensions=dimensions, epoch=VectorStoreFileRow.epoch + 1
            )
            .execution_options(synchronize_session=False)
        )
