"""What is announced of files in vector stores, and of the batches they came in.

A batch has no status of its own: it is done when none of its files is in progress any more. Locks are taken in this order: vector store,
file in it, batch.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import select

from threadloom.db.rows import FileBatchRow, VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.outbox import announce, wanted
from threadloom.types.webhooks import EventType

EndOfFile = Literal["completed", "failed", "cancelled"]
FILE_EVENTS: dict[EndOfFile, EventType] = {
    "completed": "vector_store.file.completed",
    "failed": "vector_store.file.failed",
    "cancelled": "vector_store.file.cancelled",
}
IN_PROGRESS = VectorStoreFileRow.status == "in_progress"


def files_ended(tx: Tx, row_ids: Sequence[str], status: EndOfFile) -> None:
    """Files that this transaction holds came to their end."""
    if not wanted(tx):
        return
    file = VectorStoreFileRow
    found = tx.session.execute(
        select(file.id, file.project_id, file.vector_store_id, file.file_id, file.batch_id)
        .where(file.id.in_(row_ids))
        .order_by(file.seq)
    ).all()
    for row_id, project_id, store_id, file_id, _ in found:
        data = {"id": file_id, "vector_store_id": store_id}
        announce(tx, project_id, FILE_EVENTS[status], row_id, data)
    batches_left(tx, (row.batch_id for row in found))


def batches_left(tx: Tx, batch_ids: Iterable[str | None]) -> None:
    """Files that were in progress are so no more in these batches: each that was left by its last one is done."""
    left = {each for each in batch_ids if each is not None}
    if not left or not wanted(tx):
        return
    batches = tx.session.scalars(
        select(FileBatchRow)
        .where(FileBatchRow.id.in_(left))
        .order_by(FileBatchRow.seq)
        # Of two files that end at once, the second has to see the first.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    for batch in batches.all():
        batch_ended(tx, batch)


def batch_ended(tx: Tx, batch: FileBatchRow) -> None:
    of_batch = VectorStoreFileRow.batch_id == batch.id
    if tx.session.scalar(select(VectorStoreFileRow.seq).where(of_batch, IN_PROGRESS).limit(1)):
        return
    event_type = (
        "vector_store.file_batch.completed"
        if batch.cancelled_at is None
        else "vector_store.file_batch.cancelled"
    )
    data = {"id": batch.id, "vector_store_id": batch.vector_store_id}
    announce(tx, batch.project_id, event_type, batch.id, data)


def leaving(rows: Iterable[VectorStoreFileRow]) -> list[str | None]:
    """The batches of files that are in progress."""
    return [row.batch_id for row in rows if row.status == "in_progress"]
