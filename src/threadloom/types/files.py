"""Files."""

import re
import unicodedata
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from threadloom.types.shared import Received, Sent, UnixSeconds, fault

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
INTEGER = re.compile(r"-?[0-9]{1,18}")


def base_name(value: object) -> object:
    """What comes after the last directory, on one line: some clients send the path on their machine."""
    if not isinstance(value, str):
        return value
    name = re.split(r"[/\\]", value)[-1]
    name = "".join(one for one in name if unicodedata.category(one) != "Cc").strip()
    return "" if name in {".", ".."} else name


def sent_as_file(value: object) -> object:
    if value is None:
        raise fault(
            "invalid_type",
            "Invalid type for 'file': expected a file with a name, but got a string instead.",
        )
    return value


def integer_in_text(value: object) -> object:
    return int(value) if isinstance(value, str) and INTEGER.fullmatch(value) else value


FileName = Annotated[str, Field(min_length=1, max_length=255), BeforeValidator(base_name)]
"""No file system has longer names."""


class FileExpiresAfter(Received):
    """How long a file lives."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000), BeforeValidator(integer_in_text)]


class FileCreate(Received):
    """A form with a file; its name stands for it here."""

    file: Annotated[FileName, BeforeValidator(sent_as_file)]
    purpose: CreatePurpose
    expires_after: FileExpiresAfter | None = None


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
