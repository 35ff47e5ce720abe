"""Vector stores, the files in them and files as people saved them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from threadloom.archive.saved import LAST_SECOND, FileId, Pairs, Saved, StoreId, Time
from threadloom.db.rows import FileRow, VectorStoreFileRow, VectorStoreRow
from threadloom.types.files import FileName, Purpose
from threadloom.types.shared import null_is
from threadloom.types.vector_stores import (
    Attributes,
    ExpiresAfter,
    FileError,
    StaticChunking,
    VectorStoreFileStatus,
    VectorStoreStatus,
    expiry,
)

Kept = Annotated[Attributes, null_is({})]
GENERATIONS_A_SECOND = 1_000_000
"""More than a vector store can change."""


class SavedStore(Saved):
    """A vector store. One that would have expired since it was saved is used once more: now."""

    kind = "vector_store"
    plural = "vector stores"
    row = VectorStoreRow
    compared = frozenset({"created_at", "name", "description", "expires_after", "metadata_"})

    id: StoreId
    name: Annotated[str, Field(max_length=1024)] | None = None
    description: Annotated[str, Field(max_length=4096)] | None = None
    status: VectorStoreStatus = "completed"
    expires_after: ExpiresAfter | None = None
    last_active_at: Time | None = None
    metadata: Pairs = Field(default_factory=dict[str, str])

    def values(self, now: float) -> dict[str, Any]:
        active = self.created_at if self.last_active_at is None else self.last_active_at
        expires_at = expiry(self.expires_after, active)
        if self.status != "expired" and expires_at is not None and expires_at <= now:
            active = int(now)
        return {
            "id": self.id,
            "created_at": self.created_at,
            "name": self.name,
            "description": self.description,
            "expires_after": self.expires_after,
            "last_active_at": active,
            "metadata_": self.metadata,
            "sweep_at": expiry(self.expires_after, active),
            # One of this id that was deleted had fewer: whoever still has its index sees that it is old.
            "generation": int(now * GENERATIONS_A_SECOND),
        }


class SavedStrategy(BaseModel):
    """How a file was cut; `other` is what the hosted service called what it did not remember."""

    type: Literal["static", "other", "auto"] = "static"
    static: Annotated[StaticChunking, null_is({})] = StaticChunking()


class SavedStoreFile(Saved):
    """A file in a vector store, taken in again unless it had failed or was cancelled."""

    kind = "vector_store.file"
    plural = "vector store files"
    row = VectorStoreFileRow
    compared = frozenset({"created_at", "attributes", "chunking_strategy"})

    id: FileId
    vector_store_id: StoreId
    status: VectorStoreFileStatus = "completed"
    last_error: FileError | None = None
    chunking_strategy: Annotated[SavedStrategy, null_is({})] = SavedStrategy()
    attributes: Kept = Field(default_factory=dict[str, Any])

    @field_validator("last_error", mode="before")
    @classmethod
    def known_code(cls, value: Any) -> Any:
        match value:
            case {"code": "server_error" | "unsupported_file" | "invalid_file"}:
                return value
            case {}:
                return {**value, "code": "server_error"}
            case _:
                return value

    @property
    def key(self) -> str:
        return f"{self.vector_store_id}/{self.id}"

    @property
    def parent(self) -> str:
        return self.vector_store_id

    def values(self, now: float) -> dict[str, Any]:
        ended = self.status in {"failed", "cancelled"}
        return {
            "id": self.key,
            "created_at": self.created_at,
            "vector_store_id": self.vector_store_id,
            "file_id": self.id,
            "status": self.status if ended else "in_progress",
            "usage_bytes": 0,
            "last_error": self.last_error if ended else None,
            "attributes": self.attributes,
            "chunking_strategy": self.chunking_strategy.static,
            "due_at": None if ended else now,
        }


class SavedFile(Saved):
    """A file. `bytes` is what its content has to have."""

    kind = "file"
    plural = "files"
    row = FileRow
    compared = frozenset({"created_at", "purpose", "filename", "bytes", "expires_at"})

    id: FileId
    purpose: Purpose
    filename: FileName
    bytes: Annotated[int, Field(ge=0, le=LAST_SECOND)]
    expires_at: Time | None = None

    @model_validator(mode="before")
    @classmethod
    def without_expiry(cls, value: Any) -> Any:
        """Some servers write 0 where they mean never."""
        match value:
            case {"expires_at": 0}:
                return {**value, "expires_at": None}
            case _:
                return value

    def values(self, now: float) -> dict[str, Any]:
        del now
        return {
            "id": self.id,
            "created_at": self.created_at,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes,
            "expires_at": self.expires_at,
        }

    def refusal(self, now: int) -> str | None:
        return "it has expired" if self.expires_at is not None and self.expires_at <= now else None
