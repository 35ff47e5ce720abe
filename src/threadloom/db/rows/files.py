"""Files, uploads, and bytes that nothing refers to."""

from sqlalchemy import (
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from threadloom.db.columns import Json
from threadloom.db.rows.base import NEVER_AGAIN, Owned, Row, index_where, index_where_set
from threadloom.db.rows.threads import InThread
from threadloom.errors import NotFound
from threadloom.types.files import Purpose
from threadloom.types.uploads import UploadStatus

IS_PENDING = text("status = 'pending'")


class FileRow(Owned, Row):
    """A file. `blobs` are the keys of its bytes in the blob store, one after the other."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "project_id", "seq"), index_where_set("expires_at"), NEVER_AGAIN)
    noun = "file"

    @classmethod
    def missing(cls, object_id: str) -> NotFound:
        return NotFound(f"No such File object: {object_id}", param="id")

    purpose: Mapped[Purpose] = mapped_column(Text)
    filename: Mapped[str]
    bytes: Mapped[int]
    expires_at: Mapped[int | None]

    blobs: Mapped[list[str]] = mapped_column(Json(list[str]))


class UploadRow(Owned, Row):
    """An upload in parts. `file_expires_after` are the seconds that its file is to live."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        index_where(IS_PENDING, "expires_at"),
        NEVER_AGAIN,
    )
    noun = "upload"

    purpose: Mapped[Purpose] = mapped_column(Text)
    filename: Mapped[str]
    bytes: Mapped[int]
    mime_type: Mapped[str]
    status: Mapped[UploadStatus] = mapped_column(Text)
    expires_at: Mapped[int]
    file_id: Mapped[str | None]

    file_expires_after: Mapped[int | None]


class UploadPartRow(Owned, Row):
    """A part of an upload."""

    __tablename__ = "upload_parts"
    __table_args__ = (Index(None, "upload_id", "seq"), Index(None, "project_id"), NEVER_AGAIN)
    noun = "upload part"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    bytes: Mapped[int]

    blob: Mapped[str]


class StrayBlobRow(Row):
    """A blob that no row refers to: one that is still being written, or one whose file was deleted.

    It is removed from the blob store when `due_at` has come. So a crash leaves no bytes behind for ever.
    """

    __tablename__ = "stray_blobs"
    __table_args__ = (Index(None, "due_at"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[float]


class SandboxFileRow(InThread, Row):
    """A file that code left in its thread's sandbox, kept so that the next sandbox can have it again.

    `id` is that of its File. There is one once an answer linked it, and then `blobs` is empty, because the bytes are the
    File's. When that is deleted, they come back. What changes, or comes back, gets a new id.
    """

    __tablename__ = "sandbox_files"
    __table_args__ = (UniqueConstraint("thread_id", "path"), Index(None, "project_id"), NEVER_AGAIN)
    noun = "file"

    path: Mapped[str]
    size: Mapped[int]
    blobs: Mapped[list[str]] = mapped_column(Json(list[str]))
