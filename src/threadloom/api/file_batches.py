"""Batches of files for a vector store."""

from fastapi import APIRouter, Response

from threadloom.api.context import (
    Db,
    FileBatchId,
    Listing,
    Server,
    VectorStoreId,
    ask_again,
    page_of,
)
from threadloom.api.file_counts import tally
from threadloom.api.route import VectorStoresRoute
from threadloom.api.vector_store_files import StatusFilter
from threadloom.api.vector_store_files import page as page_of_files
from threadloom.db.insert import insert_row
from threadloom.db.rows import FileBatchRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.retrieval import stores
from threadloom.types.shared import Page
from threadloom.types.vector_stores import (
    FileBatch,
    FileBatchCreate,
    VectorStoreFile,
    VectorStoreFileStatus,
)
from threadloom.webhooks.stores import batches_left

router = APIRouter(
    prefix="/v1/vector_stores/{vector_store_id}/file_batches",
    tags=["Vector stores"],
    route_class=VectorStoresRoute,
)


@router.post("")
async def create_file_batch(
    vector_store_id: VectorStoreId, body: FileBatchCreate, db: Db, server: Server
) -> FileBatch:
    return await db.write(create, vector_store_id, body, tables=server.takes_tables)


@router.get("/{batch_id}")
async def retrieve_file_batch(
    vector_store_id: VectorStoreId,
    batch_id: FileBatchId,
    db: Db,
    server: Server,
    response: Response,
) -> FileBatch:
    batch = await db.read(shown, vector_store_id, batch_id)
    if batch.status == "in_progress":
        ask_again(server, response)
    return batch


@router.post("/{batch_id}/cancel")
async def cancel_file_batch(
    vector_store_id: VectorStoreId, batch_id: FileBatchId, db: Db
) -> FileBatch:
    return await db.write(cancel, vector_store_id, batch_id)


@router.get("/{batch_id}/files")
async def list_files_in_batch(
    vector_store_id: VectorStoreId,
    batch_id: FileBatchId,
    query: Listing,
    db: Db,
    status: StatusFilter = None,
) -> Page[VectorStoreFile]:
    return page_of(VectorStoreFile, await db.read(page, vector_store_id, batch_id, query, status))


def create(tx: ProjectTx, store_id: str, body: FileBatchCreate, *, tables: bool) -> FileBatch:
    batch = FileBatchRow(
        id=tx.ids.new("vsfb_"),
        project_id=tx.project_id,
        created_at=tx.now,
        vector_store_id=store_id,
        cancelled_at=None,
    )
    stores.attach(tx, store_id, body.all_files, tables=tables, batch_id=batch.id)
    tx.session.flush()
    insert_row(tx.session, batch)
    batches_left(tx, [batch.id])  # all of its files may have been there before
    return shown(tx, store_id, batch.id)


def shown(tx: ProjectTx, store_id: str, batch_id: str) -> FileBatch:
    """A batch is in progress as long as one of its files is, also when it was cancelled: clients wait for that."""
    tx.show(VectorStoreRow, store_id)
    batch = tx.show(FileBatchRow, batch_id, vector_store_id=store_id)
    counts = tally(tx, VectorStoreFileRow.batch_id, [batch_id])[batch_id].counts
    ended = "completed" if batch["cancelled_at"] is None else "cancelled"
    return FileBatch(
        id=batch_id,
        created_at=batch["created_at"],
        vector_store_id=store_id,
        status="in_progress" if counts.in_progress else ended,
        file_counts=counts,
    )


def cancel(tx: ProjectTx, store_id: str, batch_id: str) -> FileBatch:
    """What is being ingested is given up; what is done stays. A finished batch is left as it is."""
    tx.get(VectorStoreRow, store_id, lock=True)
    batch = shown(tx, store_id, batch_id)
    if batch.status != "in_progress":
        return batch
    tx.get(FileBatchRow, batch_id).cancelled_at = tx.now
    stores.give_up(tx, VectorStoreFileRow.batch_id == batch_id)
    tx.session.flush()
    return shown(tx, store_id, batch_id)


def page(
    tx: ProjectTx,
    store_id: str,
    batch_id: str,
    query: PageQuery,
    status: VectorStoreFileStatus | None,
) -> Rows:
    tx.show(VectorStoreRow, store_id)
    tx.show(FileBatchRow, batch_id, vector_store_id=store_id)
    return page_of_files(tx, store_id, query, status, batch_id=batch_id)
