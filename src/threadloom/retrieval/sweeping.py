"""What nobody asks for: the end of vector stores that expired, and of chunks whose files are in no store any more."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import delete, select, update

from threadloom.db.database import Database
from threadloom.db.rows import ChunkRow, StrayChunksRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.index import pgvector_table
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.stores import discard_chunks, give_up, is_expired

STORES = 20
FILES = 100
CHUNKS = 500
"""Removed in one transaction: 25 ms on average on SQLite, whose other writers wait meanwhile."""
ROUNDS = 1_000


async def sweep(database: Database) -> None:
    """A bounded share of what is due. Any number of processes may sweep at once."""
    for step in (expire_stores, remove_chunks):
        for _ in range(ROUNDS):
            if not await database.write(step):
                break


def expire_stores(tx: Tx) -> bool:
    """Empty stores that have expired; their files stay listed. Whether there may be more."""
    due = (
        select(VectorStoreRow)
        .where(VectorStoreRow.sweep_at <= tx.now)
        .order_by(VectorStoreRow.sweep_at)
        .limit(STORES)
        .with_for_update(skip_locked=True)
    )
    stores = tx.session.scalars(due).all()
    for store in stores:
        if is_expired(store, tx.now):
            empty(tx, store)
        store.sweep_at = None
    return len(stores) == STORES


def empty(tx: Tx, store: VectorStoreRow) -> None:
    of_store = VectorStoreFileRow.vector_store_id == store.id
    store.generation += 1
    tx.session.flush()
    give_up(tx, of_store)
    discard_chunks(tx, of_store)
    tx.session.execute(
        update(VectorStoreFileRow)
        .where(of_store)
        .values(usage_bytes=0)
        .execution_options(synchronize_session=False)
    )


def remove_chunks(tx: Tx) -> bool:
    """Remove some chunks that nothing finds. Whether there may be more."""
    waiting = select(StrayChunksRow.store_file_seq).limit(FILES).with_for_update(skip_locked=True)
    files = tx.session.scalars(waiting).all()
    some = select(ChunkRow.seq).where(ChunkRow.store_file_seq.in_(files)).limit(CHUNKS)
    chunks = tx.session.scalars(some).all()
    tx.session.execute(delete(ChunkRow).where(ChunkRow.seq.in_(chunks)))
    if len(chunks) < CHUNKS:
        tx.session.execute(delete(StrayChunksRow).where(StrayChunksRow.store_file_seq.in_(files)))
    return bool(files)


class IndexSweep:
    """Removes what indexes still have of documents that were deleted: nobody may ever search their stores again.

    An index is a cache, so a file with anything too much in it is removed as a whole. Those that were looked at are remembered.
    """

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._folders = [CacheFiles(directory), CacheFiles(directory / "words")]
        self._seen: dict[Path, tuple[int, int | None]] = {}

    async def sweep(self) -> None:
        await self._database.write(pgvector_table.sweep)
        for files in self._folders:
            for store_id in await asyncio.to_thread(files.store_ids):
                await self._look_at(files, store_id)

    async def _look_at(self, files: CacheFiles, store_id: str) -> None:
        path = files.path(store_id)
        now = files.changed_at(store_id), await self._database.read(generation_of, store_id)
        if self._seen.get(path) == now:
            return
        held = await asyncio.to_thread(files.held, store_id)
        if await self._database.read(has_lost, store_id, held):
            await asyncio.to_thread(files.remove, [store_id])
            self._seen.pop(path, None)
        else:
            self._seen[path] = now


def generation_of(tx: Tx, store_id: str) -> int | None:
    return tx.session.scalar(select(VectorStoreRow.generation).where(VectorStoreRow.id == store_id))


def has_lost(tx: Tx, store_id: str, held: Sequence[int]) -> bool:
    """Whether the store is gone, or one of these files in it."""
    if generation_of(tx, store_id) is None:
        return True
    of_store = VectorStoreFileRow.vector_store_id == store_id
    return not set(held) <= set(tx.session.scalars(select(VectorStoreFileRow.seq).where(of_store)))
