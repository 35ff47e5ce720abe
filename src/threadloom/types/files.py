"""Files."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.shared import Received, Sent, UnixSeconds

CreatePurpose = Literal["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
Purpose = Literal[
    "fine-tune",
    "assistants",
    "batch",
    "user_data",
    "vision",
    "evals",
    "assistants_output",
    "batch_output",
    "fine-tune-results",
]


class FileExpiresAfter(Received):
    """How long a file lives."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class File(Sent):
    """A file."""

    object: Literal["file"] = "file"
    id: str
    purpose: Purpose
    filename: str
    bytes: int
    created_at: UnixSeconds
    expires_at: UnixSeconds | None
    status: Literal["processed"] = "processed"
    status_details: None = None
