"""Vector stores, the files in them, batches of files, and searches."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from threadloom.types.shared import Echoed, fault

DEFAULT_CHUNK_TOKENS = 800
DEFAULT_OVERLAP_TOKENS = 400
VectorStoreStatus = Literal["expired", "in_progress", "completed"]
VectorStoreFileStatus = Literal["in_progress", "completed", "cancelled", "failed"]
FileErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]

AttributeName = Annotated[str, Field(max_length=64)]
AttributeValue = Annotated[str, Field(max_length=512)] | float | bool
Attributes = Annotated[dict[AttributeName, AttributeValue], Field(max_length=16)]


class ExpiresAfter(Echoed):
    """A store expires some days after its last use."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class FileError(Echoed):
    """Why a file could not be taken into a store; the message tells a person what to do."""

    code: FileErrorCode
    message: str


class StaticChunking(Echoed):
    """Chunk size and overlap, in tokens."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)] = DEFAULT_CHUNK_TOKENS
    chunk_overlap_tokens: Annotated[int, Field(ge=0)] = DEFAULT_OVERLAP_TOKENS

    @model_validator(mode="after")
    def overlap_is_half_at_most(self) -> Self:
        if 2 * self.chunk_overlap_tokens > self.max_chunk_size_tokens:
            raise fault(
                "invalid_value",
                "Invalid 'chunking_strategy.static.chunk_overlap_tokens': chunk_overlap_tokens must be less than or "
                f"equal to max_chunk_size_tokens / 2. Expected at most {self.max_chunk_size_tokens // 2}, but got "
                f"{self.chunk_overlap_tokens} instead.",
            )
        return self
