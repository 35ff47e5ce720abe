"""Files that code left in its thread's sandbox: kept, and made Files of once an answer links them. One transaction each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from threadloom.db.rows import FileRow, SandboxFileRow
from threadloom.db.tx import Tx
from threadloom.files.actions import insert_file
from threadloom.files.strays import discard, keep


@dataclass(frozen=True)
class KeptFile:
    """A file as it is kept. `id` is that of its File, also before there is one."""

    id: str
    path: str
    size: int
    blobs: Sequence[str]


@dataclass(frozen=True)
class CopiedFile:
    """A file of which a copy was just made, in a blob that no row refers to yet."""

    path: str
    size: int
    blob: str


def kept_files(tx: Tx, thread_id: str) -> list[KeptFile]:
    """What is kept of a thread, in the order in which it was first written."""
    published = FileRow.id == SandboxFileRow.id
    found = tx.session.execute(
        select(SandboxFileRow, FileRow.blobs)
        .outerjoin(FileRow, published)
        .where(SandboxFileRow.thread_id == thread_id)
        .order_by(SandboxFileRow.seq)
    )
    kept = [KeptFile(row.id, row.path, row.size, row.blobs or blobs) for row, blobs in found]
    return [file for file in kept if file.blobs]


def keep_files(
    tx: Tx,
    *,
    project_id: str,
    thread_id: str,
    files: Sequence[CopiedFile],
    gone: Collection[str],
) -> None:
    """Keep these copies, the last of each path, in the place of what was kept, and forget the paths `gone`."""
    latest = {file.path: file for file in files}
    forget(tx, thread_id, {*gone, *latest})
    for file in latest.values():
        keep(tx, file.blob)
        tx.session.add(
            SandboxFileRow(
                id=tx.ids.new("file-"),
                project_id=project_id,
                thread_id=thread_id,
                created_at=tx.now,
                path=file.path,
                size=file.size,
                blobs=[file.blob],
            )
        )
    tx.session.flush()


def forget(tx: Tx, thread_id: str, paths: Collection[str]) -> None:
    """Keep these no more; Files made of them stay."""
    if not paths:
        return
    rows = delete(SandboxFileRow).where(
        SandboxFileRow.thread_id == thread_id, SandboxFileRow.path.in_(paths)
    )
    for blobs in tx.session.scalars(rows.returning(SandboxFileRow.blobs)).all():
        discard(tx, blobs)


def forget_thread(tx: Tx, thread_id: str) -> None:
    """The thread is being deleted: its rows go with it, their bytes are swept."""
    blobs = select(SandboxFileRow.blobs).where(SandboxFileRow.thread_id == thread_id)
    discard(tx, [key for keys in tx.session.scalars(blobs) for key in keys])


def publish(tx: Tx, thread_id: str, file_id: str, filename: str) -> None:
    """Make the File of a kept file, which takes over its bytes; nothing happens when there is one, or nothing is kept."""
    row = tx.session.scalar(
        select(SandboxFileRow)
        .where(SandboxFileRow.id == file_id, SandboxFileRow.thread_id == thread_id)
        .with_for_update()
    )
    if row is None or not row.blobs:
        return
    insert_file(
        tx,
        row.project_id,
        file_id=row.id,
        filename=filename,
        purpose="assistants_output",
        size=row.size,
        blobs=row.blobs,
    )
    row.blobs = []
