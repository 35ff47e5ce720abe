"""What nobody asks for: the end of vector stores that expired, and of chunks whose files are in no store any more."""

from sqlalchemy import delete, select, update

from threadloom.db.database import Database
from threadloom.db.rows import ChunkRow, StrayChunksRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
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
