"""What happens to files. One transaction each."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Text, cast, or_, select, update

from threadloom.db.rows import (
    NAMES_FILES,
    AssistantRow,
    FileRow,
    SandboxFileRow,
    StrayChunksRow,
    ThreadRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown, Tx
from threadloom.files.strays import discard
from threadloom.types.files import FileExpiresAfter, Purpose
from threadloom.types.tools import ToolResources
from threadloom.webhooks.stores import batches_left, leaving

REFUSED_BY_OPENAI = frozenset({"assistants", "user_data"})
"""Purposes of Files whose content could not be downloaded."""
BATCH_FILES_LIVE = 30 * 86_400
"""Seconds after which files of purpose `batch` expired at the hosted service, unless it was told otherwise."""


def create_file(
    tx: ProjectTx,
    *,
    filename: str,
    purpose: Purpose,
    size: int,
    blobs: Sequence[str],
    lifetime: int | None = None,
) -> FileRow:
    """A file whose bytes are these blobs, one after the other."""
    if lifetime is None and purpose == "batch":
        lifetime = BATCH_FILES_LIVE
    return insert_file(
        tx,
        tx.project_id,
        file_id=tx.ids.new("file-"),
        filename=filename,
        purpose=purpose,
        size=size,
        blobs=blobs,
        expires_at=None if lifetime is None else tx.now + lifetime,
    )


def insert_file(
    tx: Tx,
    project_id: str,
    *,
    file_id: str,
    filename: str,
    purpose: Purpose,
    size: int,
    blobs: Sequence[str],
    expires_at: int | None = None,
) -> FileRow:
    """A file whose id was given away before."""
    file = FileRow(
        id=file_id,
        project_id=project_id,
        created_at=tx.now,
        purpose=purpose,
        filename=filename,
        bytes=size,
        expires_at=expires_at,
        blobs=list(blobs),
    )
    tx.session.add(file)
    tx.session.flush()
    return file


def seconds_of(expires_after: FileExpiresAfter | None) -> int | None:
    return expires_after and expires_after.seconds


def show_file(tx: ProjectTx, file_id: str) -> Shown:
    """The file, to be sent, unless it has expired. Raises NotFound."""
    file = tx.show(FileRow, file_id)
    if file["expires_at"] is not None and file["expires_at"] <= tx.now:
        raise tx.missing(FileRow, file_id)
    return file


def page_files(tx: ProjectTx, query: PageQuery, purpose: str | None) -> Rows:
    conditions = [is_alive(tx)]
    if purpose:
        conditions.append(FileRow.purpose == purpose)
    return tx.page(FileRow, query, *conditions)


def is_alive(tx: Tx) -> ColumnElement[bool]:
    return or_(FileRow.expires_at.is_(None), FileRow.expires_at > tx.now)


def delete_file(tx: ProjectTx, file_id: str) -> None:
    own = select(FileRow).where(FileRow.id == file_id, FileRow.project_id == tx.project_id)
    # The strongest lock, so that no store takes the file meanwhile.
    file = tx.session.scalar(own.where(is_alive(tx)).with_for_update())
    if file is None:
        raise tx.missing(FileRow, file_id)
    remove(tx, file)


def remove(tx: Tx, file: FileRow) -> None:
    """Forget a locked file wherever it is named; its bytes are swept, unless a thread still keeps them."""
    forget_in_tools(tx, file)
    detach(tx, file)
    if not give_back(tx, file):
        discard(tx, file.blobs)
    tx.delete(file)


def give_back(tx: Tx, file: FileRow) -> bool:
    """Leave the bytes to the thread whose code wrote them, if it still keeps them. What it links next is another File."""
    given = update(SandboxFileRow).where(SandboxFileRow.id == file.id)
    back = given.values(id=tx.ids.new("file-"), blobs=file.blobs).returning(SandboxFileRow.seq)
    return tx.session.scalar(back) is not None


def detach(tx: Tx, file: FileRow) -> None:
    """Take a locked file out of its vector stores; its chunks are swept. Whoever ingests it loses its lease.

    Stores before the files in them, and each in order, as everybody locks them who needs both.
    """
    found = select(VectorStoreFileRow).where(VectorStoreFileRow.file_id == file.id)
    store_ids = {row.vector_store_id for row in tx.session.scalars(found)}
    for store_id in sorted(store_ids):
        tx.session.execute(
            update(VectorStoreRow)
            .where(VectorStoreRow.id == store_id)
            .values(generation=VectorStoreRow.generation + 1)
        )
        tx.wake(store_id)
    rows = tx.session.scalars(found.order_by(VectorStoreFileRow.seq).with_for_update()).all()
    for row in rows:
        tx.session.merge(StrayChunksRow(store_file_seq=row.seq))
        tx.delete(row)
    batches_left(tx, leaving(rows))


def forget_in_tools(tx: Tx, file: FileRow) -> None:
    """Take the file out of what code interpreters see."""
    # Other ids came with an import, and no index helps with them.
    indexed = [NAMES_FILES] if "file-" in file.id else []
    for kind in (AssistantRow, ThreadRow):
        naming = select(kind).where(
            kind.project_id == file.project_id,
            *indexed,
            cast(kind.tool_resources, Text).contains(file.id, autoescape=True),
        )
        for row in tx.session.scalars(naming.order_by(kind.seq).with_for_update(key_share=True)):
            row.tool_resources = without_file(row.tool_resources, file.id)


def without_file(resources: ToolResources, file_id: str) -> ToolResources:
    seen = resources.get("code_interpreter", {}).get("file_ids", [])
    kept = [each for each in seen if each != file_id]
    return resources | {"code_interpreter": {"file_ids": kept}}
