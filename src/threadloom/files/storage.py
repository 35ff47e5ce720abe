"""How much a project has stored."""

from sqlalchemy import func, select

from threadloom.db.rows import FileRow, SandboxFileRow, UploadPartRow
from threadloom.db.tx import ProjectTx


def stored_bytes(tx: ProjectTx) -> int:
    """Bytes of files, of parts of pending uploads, and of what code left in its sandbox and no File was made of."""
    linked = select(FileRow.id).where(FileRow.id == SandboxFileRow.id).exists()
    sums = (
        select(func.sum(FileRow.bytes)).where(FileRow.project_id == tx.project_id),
        select(func.sum(UploadPartRow.bytes)).where(UploadPartRow.project_id == tx.project_id),
        select(func.sum(SandboxFileRow.size))
        .where(SandboxFileRow.project_id == tx.project_id)
        .where(~linked),
    )
    return sum(int(tx.session.scalar(one) or 0) for one in sums)
