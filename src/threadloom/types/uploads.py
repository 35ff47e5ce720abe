"""Uploads: large files, sent in parts."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.files import CreatePurpose, File, FileExpiresAfter, FileName, Purpose
from threadloom.types.shared import MAX_INTEGER, Received, Sent, UnixSeconds, is_none

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class UploadCreate(Received):
    """Announces a file."""

    filename: FileName
    purpose: CreatePurpose
    bytes: Annotated[int, Field(ge=0, le=MAX_INTEGER)]
    mime_type: str
    expires_after: FileExpiresAfter | None = None


class UploadPartCreate(Received):
    """A form with a part; the name that its sender gave it stands for it here, and means nothing."""

    data: str | None


class UploadComplete(Received):
    """The parts that make the file, in order."""

    part_ids: list[str]
    md5: str | None = None


class UploadPart(Sent):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: UnixSeconds
    upload_id: str


class Upload(Sent):
    """An upload; its file is there when it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: UnixSeconds
    filename: str
    purpose: Purpose
    status: UploadStatus
    expires_at: UnixSeconds
    file: File | None = Field(default=None, exclude_if=is_none)
