"""Files in a vector store."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import bindparam, select

from threadloom.api.context import (
    Db,
    Listing,
    Server,
    StoreFileId,
    VectorStoreId,
    ask_again,
    page_of,
)
from threadloom.api.route import VectorStoresRoute
from threadloom.db.rows import ChunkRow, FileRow, TombstoneRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown
from threadloom.retrieval import stores
from threadloom.retrieval.stores import row_id
from threadloom.types.shared import Deleted, Page
from threadloom.types.vector_stores import (
    FileContent,
    FileCreate,
    FileModify,
    FileText,
    VectorStoreFile,
    VectorStoreFileStatus,
)

router = APIRouter(
    prefix="/v1/vector_stores/{vector_store_id}/files",
    tags=["Vector stores"],
    route_class=VectorStoresRoute,
)
EXPIRED = select(FileRow.id).where(FileRow.expires_at <= bindparam("now"))
"""Files that are not swept yet: few at any time, and found by an index."""
StatusFilter = Annotated[VectorStoreFileStatus | None, Query(alias="filter")]


@router.post("")
async def create_vector_store_file(
    vector_store_id: VectorStoreId, body: FileCreate, db: Db, server: Server
) -> VectorStoreFile:
    return VectorStoreFile.model_validate(
        await db.write(create, vector_store_id, body, tables=server.takes_tables)
    )


@router.get("")
async def list_vector_store_files(
    vector_store_id: VectorStoreId, query: Listing, db: Db, status: StatusFilter = None
) -> Page[VectorStoreFile]:
    return page_of(VectorStoreFile, await db.read(page, vector_store_id, query, status))


@router.get("/{file_id}")
async def retrieve_vector_store_file(
    vector_store_id: VectorStoreId, file_id: StoreFileId, db: Db, server: Server, response: Response
) -> VectorStoreFile:
    file = VectorStoreFile.model_validate(await db.read(shown, vector_store_id, file_id))
    if file.status == "in_progress":
        ask_again(server, response)
    return file


@router.post("/{file_id}")
async def modify_vector_store_file(
    vector_store_id: VectorStoreId, file_id: StoreFileId, body: FileModify, db: Db
) -> VectorStoreFile:
    return VectorStoreFile.model_validate(await db.write(modify, vector_store_id, file_id, body))


@router.delete("/{file_id}")
async def delete_vector_store_file(
    vector_store_id: VectorStoreId, file_id: StoreFileId, db: Db
) -> Deleted:
    await db.write(delete, vector_store_id, file_id)
    return Deleted(id=file_id, object="vector_store.file.deleted", deleted=True)


@router.get("/{file_id}/content")
async def retrieve_vector_store_file_content(
    vector_store_id: VectorStoreId, file_id: StoreFileId, db: Db
) -> FileContent:
    return FileContent(data=await db.read(content, vector_store_id, file_id))


def create(tx: ProjectTx, store_id: str, body: FileCreate, *, tables: bool) -> Shown:
    stores.attach(tx, store_id, [body], tables=tables)
    tx.session.flush()
    return shown(tx, store_id, body.file_id)


def shown(tx: ProjectTx, store_id: str, file_id: str) -> Shown:
    tx.show(VectorStoreRow, store_id)
    row = tx.show(VectorStoreFileRow, row_id(store_id, file_id))
    if tx.session.scalar(EXPIRED.where(FileRow.id == file_id), {"now": tx.now}):
        raise tx.missing(VectorStoreFileRow, row["id"])
    return row


def page(
    tx: ProjectTx,
    store_id: str,
    query: PageQuery,
    status: VectorStoreFileStatus | None,
    **parent: str,
) -> Rows:
    """A page of a store's files, or of those of a batch in it: clients know them by their files' ids."""
    tx.show(VectorStoreRow, store_id)
    in_rows = replace(
        query,
        after=query.after and row_id(store_id, query.after),
        before=query.before and row_id(store_id, query.before),
    )
    kept = [VectorStoreFileRow.status == status] if status else []
    alive = VectorStoreFileRow.file_id.not_in(EXPIRED.params(now=tx.now))
    rows = tx.page(VectorStoreFileRow, in_rows, alive, *kept, vector_store_id=store_id, **parent)
    return Rows([row | {"id": row["file_id"]} for row in rows.rows], rows.has_more)


def held(tx: ProjectTx, store_id: str, file_id: str) -> VectorStoreFileRow:
    """A file in this store; both are locked. Raises NotFound."""
    tx.get(VectorStoreRow, store_id, lock=True)
    return tx.get(VectorStoreFileRow, row_id(store_id, file_id), lock=True)


def modify(tx: ProjectTx, store_id: str, file_id: str, body: FileModify) -> Shown:
    stores.set_attributes(tx, held(tx, store_id, file_id), body.attributes or {})
    tx.session.flush()
    return shown(tx, store_id, file_id)


def delete(tx: ProjectTx, store_id: str, file_id: str) -> None:
    """The file itself stays."""
    row = held(tx, store_id, file_id)
    tx.session.merge(TombstoneRow(id=row.id, project_id=tx.project_id, seq=row.seq))
    stores.remove(tx, [row])


def content(tx: ProjectTx, store_id: str, file_id: str) -> list[FileText]:
    """The text of the file, chunk by chunk but each part of it once: joined, it is the text."""
    seq = shown(tx, store_id, file_id)["seq"]
    chunks = tx.session.execute(
        select(ChunkRow.start, ChunkRow.end, ChunkRow.text)
        .where(ChunkRow.store_file_seq == seq)
        .order_by(ChunkRow.position)
    )
    return [FileText(text=text) for text in without_overlaps(chunks.all())]


def without_overlaps(chunks: Iterable[tuple[int, int, str]]) -> list[str]:
    """The new part of each chunk; what no chunk has is space, of which a line is kept as such."""
    texts: list[str] = []
    done = 0
    for start, end, text in chunks:
        gap = "\n" * min(start - done, 2) if texts else ""
        if end > done:
            texts.append(gap + text[max(done - start, 0) :])
            done = end
    return texts
