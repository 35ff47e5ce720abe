"""Vector stores, the files in them, and batches of files."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from threadloom.types.shared import (
    Echoed,
    Metadata,
    Received,
    Sent,
    UnixSeconds,
    fault,
    id_of,
    only_one_of,
)

DEFAULT_CHUNK_TOKENS = 800
DEFAULT_OVERLAP_TOKENS = 400
DAY = 86_400
VectorStoreStatus = Literal["expired", "in_progress", "completed"]
VectorStoreFileStatus = Literal["in_progress", "completed", "cancelled", "failed"]
FileErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]
FileId = Annotated[str, id_of("file", "assistant-")]
"""Files that came from Azure begin with `assistant-`."""
MAX_BATCH = 2_000

AttributeName = Annotated[str, Field(max_length=64)]
AttributeValue = Annotated[str, Field(max_length=512)] | bool | int | float
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


class StaticChunkingCreate(StaticChunking):
    """Chunk size and overlap, both given."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]  # pyright: ignore[reportGeneralTypeIssues]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]  # pyright: ignore[reportGeneralTypeIssues]


class AutoStrategy(Received):
    """The default sizes."""

    type: Literal["auto"]


class StaticStrategy(Received):
    """Chosen sizes."""

    type: Literal["static"]
    static: StaticChunkingCreate


ChunkingStrategy = Annotated[AutoStrategy | StaticStrategy, Field(discriminator="type")]


class FileCreate(Received):
    """POST /vector_stores/{id}/files, and one of the files of a batch."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class FileModify(Received):
    """POST /vector_stores/{id}/files/{id}: the attributes that replace the old ones, null meaning none."""

    attributes: Attributes | None


class FileBatchCreate(Received):
    """POST /vector_stores/{id}/file_batches."""

    file_ids: Annotated[list[FileId], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    files: Annotated[list[FileCreate], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def either_way(self) -> Self:
        only_one_of(self, "file_ids", "files")
        if self.file_ids is None and self.files is None:
            raise fault("missing_required_parameter", "Missing required parameter: 'file_ids'.")
        return self

    @property
    def all_files(self) -> list[FileCreate]:
        """Each file with what is to be done with it; the batch's own options are for its `file_ids`."""
        return self.files or files_of(self.file_ids, self.chunking_strategy, self.attributes)


class VectorStoreModify(Received):
    """POST /vector_stores/{id}."""

    name: str | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class VectorStoreCreate(VectorStoreModify):
    """POST /vector_stores."""

    description: str | None = None
    file_ids: Annotated[list[FileId], Field(max_length=500)] | None = None
    chunking_strategy: ChunkingStrategy | None = None


class FileCounts(Sent):
    """How many files are in which state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(Sent):
    """A vector store."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: UnixSeconds
    name: str | None
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: VectorStoreStatus
    expires_after: ExpiresAfter | None
    expires_at: UnixSeconds | None
    last_active_at: UnixSeconds
    metadata: Metadata = Field(validation_alias="metadata_")


class EffectiveChunking(Sent):
    """How a file is cut, also where `auto` was asked for."""

    type: Literal["static"] = "static"
    static: StaticChunking


class VectorStoreFile(Sent):
    """A file in a vector store; `progress` (0 to 1) is Threadloom's own."""

    id: str = Field(validation_alias="file_id")
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: UnixSeconds
    vector_store_id: str
    status: VectorStoreFileStatus
    last_error: FileError | None
    chunking_strategy: Annotated[
        EffectiveChunking, BeforeValidator(lambda stored: {"static": stored})
    ]
    attributes: Attributes
    progress: float


class FileBatch(Sent):
    """Files that were attached together; `object` is what the hosted service sent, whatever its schema said."""

    id: str
    object: Literal["vector_store.file_batch"] = "vector_store.file_batch"
    created_at: UnixSeconds
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts


class FileText(Sent):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class FileContent(Sent):
    """The text that was found in a file."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[FileText]
    has_more: Literal[False] = False
    next_page: None = None


def files_of(
    file_ids: list[str] | None,
    chunking: ChunkingStrategy | None,
    attributes: Attributes | None = None,
) -> list[FileCreate]:
    """Files with the same options."""
    return [
        FileCreate(file_id=file_id, attributes=attributes, chunking_strategy=chunking)
        for file_id in file_ids or ()
    ]


def sizes(strategy: ChunkingStrategy | None) -> StaticChunking:
    """The sizes that a strategy stands for."""
    if isinstance(strategy, StaticStrategy):
        return StaticChunking(**strategy.static.model_dump())
    return StaticChunking()


def expiry(expires_after: ExpiresAfter | None, last_active_at: int) -> int | None:
    """When a store expires that is not used any more."""
    return None if expires_after is None else last_active_at + expires_after.days * DAY
