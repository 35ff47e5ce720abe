"""The tables. Each row has the names of the object it becomes; what is only ours stands at its end."""

from typing import ClassVar

from sqlalchemy import (
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from threadloom.db.columns import Json, Serial
from threadloom.errors import NotFound
from threadloom.types.files import Purpose
from threadloom.types.messages import Attachment, Content, IncompleteDetails, MessageStatus, Role
from threadloom.types.run_steps import RecordedCall, RunStepStatus, RunStepType, StepDetails
from threadloom.types.runs import (
    LastError,
    RequiredAction,
    RunIncompleteDetails,
    RunStatus,
    RunUsage,
    TruncationStrategy,
)
from threadloom.types.tools import (
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolResources,
)
from threadloom.types.uploads import UploadStatus
from threadloom.types.vector_stores import (
    Attributes,
    ExpiresAfter,
    FileError,
    StaticChunking,
    VectorStoreFileStatus,
)

# A number that was given away is not given again, or a cursor would lead elsewhere.
NEVER_AGAIN = {"sqlite_autoincrement": True}

ACTIVE: tuple[RunStatus, ...] = ("queued", "in_progress", "requires_action", "cancelling")
IS_ACTIVE = text(f"status IN ({', '.join(repr(status) for status in ACTIVE)})")
IS_PENDING = text("status = 'pending'")
NAMES_FILES = text("CAST(tool_resources AS TEXT) LIKE '%file-%'")


def index_where(condition: TextClause, *columns: str) -> Index:
    """An index of the few rows that somebody will look for."""
    return Index(None, *columns, sqlite_where=condition, postgresql_where=condition)


def index_where_set(*columns: str) -> Index:
    """An index of the rows whose last column is not NULL."""
    return index_where(text(f"{columns[-1]} IS NOT NULL"), *columns)


class Row(DeclarativeBase):
    """A table; constraints are named, so that a migration can drop them."""

    type_annotation_map: ClassVar = {str: Text, int: Serial}

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Numbered:
    """`seq` orders rows: ids are random, and several rows share a second."""

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int]


class Owned(Numbered):
    """An object of a project, reached only through a `ProjectTx`."""

    noun: ClassVar[str]

    @classmethod
    def missing(cls, object_id: str) -> NotFound:
        return NotFound(f"No {cls.noun} found with id '{object_id}'.")

    @declared_attr
    @classmethod
    def project_id(cls) -> Mapped[str]:
        return mapped_column(Text, ForeignKey("projects.id", ondelete="CASCADE"))


class Leased(Owned):
    """A row that workers claim: due from `due_at` on, fenced by `epoch`. NULL: nothing to do."""

    epoch: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[float | None]


class ProjectRow(Numbered, Row):
    """What keys and objects belong to."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(unique=True)


class ApiKeyRow(Numbered, Row):
    """A key: only its hash, and enough of it to be recognised by."""

    __tablename__ = "api_keys"

    project_id: Mapped[str] = mapped_column(Text, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    hint: Mapped[str]
    revoked_at: Mapped[int | None]


class TombstoneRow(Row):
    """Where a deleted object stood: clients page on from ids that they have just deleted."""

    __tablename__ = "tombstones"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    seq: Mapped[int] = mapped_column(Serial)


class AssistantRow(Owned, Row):
    """An assistant."""

    __tablename__ = "assistants"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        index_where(NAMES_FILES, "project_id"),
        NEVER_AGAIN,
    )
    noun = "assistant"

    name: Mapped[str | None]
    description: Mapped[str | None]
    model: Mapped[str]
    instructions: Mapped[str | None]
    tools: Mapped[list[Tool]] = mapped_column(Json(list[Tool]))
    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    response_format: Mapped[ResponseFormat] = mapped_column(Json(ResponseFormat))
    reasoning_effort: Mapped[ReasoningEffort | None] = mapped_column(Text)


class ThreadRow(Owned, Row):
    """A thread."""

    __tablename__ = "threads"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        index_where(NAMES_FILES, "project_id"),
        NEVER_AGAIN,
    )
    noun = "thread"

    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))


class InThread(Owned):
    """A row that goes when its thread goes."""

    @declared_attr
    @classmethod
    def thread_id(cls) -> Mapped[str]:
        return mapped_column(Text, ForeignKey("threads.id", ondelete="CASCADE"))


class MessageRow(InThread, Row):
    """A message."""

    __tablename__ = "messages"
    __table_args__ = (Index(None, "thread_id", "seq"), Index(None, "run_id"), NEVER_AGAIN)
    noun = "message"

    assistant_id: Mapped[str | None]
    run_id: Mapped[str | None]
    status: Mapped[MessageStatus] = mapped_column(Text)
    incomplete_details: Mapped[IncompleteDetails | None] = mapped_column(Json(IncompleteDetails))
    incomplete_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    role: Mapped[Role] = mapped_column(Text)
    content: Mapped[list[Content]] = mapped_column(Json(list[Content]))
    attachments: Mapped[list[Attachment]] = mapped_column(Json(list[Attachment]))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))


class RunRow(InThread, Leased, Row):
    """A run, and the queue: a run is due when a worker should look at it.

    `spent` is what its turns used so far (`usage` shows it at the end); `kept_since` is when it ended, until its
    events are pruned.
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index(None, "thread_id", "seq"),
        Index(None, "project_id", "seq"),
        Index(
            "uq_runs_active",
            "thread_id",
            unique=True,
            sqlite_where=IS_ACTIVE,
            postgresql_where=IS_ACTIVE,
        ),
        index_where_set("due_at"),
        index_where_set("kept_since"),
        NEVER_AGAIN,
    )
    noun = "run"

    assistant_id: Mapped[str]
    status: Mapped[RunStatus] = mapped_column(Text)
    started_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    cancelled_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    required_action: Mapped[RequiredAction | None] = mapped_column(Json(RequiredAction))
    last_error: Mapped[LastError | None] = mapped_column(Json(LastError))
    model: Mapped[str]
    instructions: Mapped[str]
    tools: Mapped[list[Tool]] = mapped_column(Json(list[Tool]))
    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    reasoning_effort: Mapped[ReasoningEffort | None] = mapped_column(Text)
    max_completion_tokens: Mapped[int | None]
    max_prompt_tokens: Mapped[int | None]
    truncation_strategy: Mapped[TruncationStrategy] = mapped_column(Json(TruncationStrategy))
    incomplete_details: Mapped[RunIncompleteDetails | None] = mapped_column(
        Json(RunIncompleteDetails)
    )
    usage: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))
    response_format: Mapped[ResponseFormat] = mapped_column(Json(ResponseFormat))
    tool_choice: Mapped[ToolChoice] = mapped_column(Json(ToolChoice))
    parallel_tool_calls: Mapped[bool]

    additional_instructions: Mapped[str | None]
    turns: Mapped[int] = mapped_column(default=0)
    spent: Mapped[RunUsage] = mapped_column(Json(RunUsage))
    kept_since: Mapped[float | None]


class RunStepRow(InThread, Row):
    """A step of a run, and the journal a crashed run is rebuilt from.

    `turn` counts the run's model turns. `calls` are that turn's tool calls (empty while the model still writes),
    `cost` what the turn used, `heard` what the model is told of each call, by call id.
    """

    __tablename__ = "run_steps"
    __table_args__ = (Index(None, "run_id", "seq"), Index(None, "thread_id"), NEVER_AGAIN)
    noun = "run step"

    run_id: Mapped[str]
    assistant_id: Mapped[str]
    type: Mapped[RunStepType] = mapped_column(Text)
    status: Mapped[RunStepStatus] = mapped_column(Text)
    cancelled_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    expired_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    last_error: Mapped[LastError | None] = mapped_column(Json(LastError))
    step_details: Mapped[StepDetails] = mapped_column(Json(StepDetails))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    usage: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))

    turn: Mapped[int]
    calls: Mapped[list[RecordedCall]] = mapped_column(Json(list[RecordedCall]))
    cost: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))
    heard: Mapped[dict[str, str]] = mapped_column(Json(dict[str, str]))


class EventRow(Row):
    """An event of a run's stream, as sent. `(epoch, seq)` is its place: a later holder has a higher epoch."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    data: Mapped[str]


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
    __table_args__ = (Index(None, "upload_id", "seq"), NEVER_AGAIN)
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
    __table_args__ = (UniqueConstraint("thread_id", "path"), NEVER_AGAIN)
    noun = "file"

    path: Mapped[str]
    size: Mapped[int]
    blobs: Mapped[list[str]] = mapped_column(Json(list[str]))


class VectorStoreRow(Owned, Row):
    """A vector store. `generation` counts the changes of what a search of it may find.

    At `sweep_at`, which is when it expires, what it holds is removed; NULL: never, or done.
    """

    __tablename__ = "vector_stores"
    __table_args__ = (Index(None, "project_id", "seq"), index_where_set("sweep_at"), NEVER_AGAIN)
    noun = "vector store"

    name: Mapped[str | None]
    description: Mapped[str | None]
    expires_after: Mapped[ExpiresAfter | None] = mapped_column(Json(ExpiresAfter))
    last_active_at: Mapped[int]
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))

    generation: Mapped[int] = mapped_column(default=0)
    sweep_at: Mapped[int | None]


class InVectorStore(Owned):
    """A row that goes when its vector store goes."""

    @declared_attr
    @classmethod
    def vector_store_id(cls) -> Mapped[str]:
        return mapped_column(Text, ForeignKey("vector_stores.id", ondelete="CASCADE"))


class FileBatchRow(InVectorStore, Row):
    """Files that were attached together; its counts are those of its files."""

    __tablename__ = "file_batches"
    __table_args__ = (Index(None, "vector_store_id", "seq"), NEVER_AGAIN)
    noun = "vector store file batch"

    cancelled_at: Mapped[int | None]


class VectorStoreFileRow(InVectorStore, Leased, Row):
    """A file in a vector store, and the queue of ingestion.

    `id` is `{vector_store_id}/{file_id}`: the API knows it by the file's id. `progress` goes from 0 to 1. The embedder that
    made its vectors is remembered, because vectors of two models cannot be compared.
    """

    __tablename__ = "vector_store_files"
    __table_args__ = (
        Index(None, "vector_store_id", "status"),
        Index(None, "vector_store_id", "seq"),
        Index(None, "file_id"),
        Index(None, "batch_id", "status"),
        index_where_set("due_at"),
        NEVER_AGAIN,
    )
    noun = "file"

    @classmethod
    def missing(cls, object_id: str) -> NotFound:
        store_id, _, file_id = object_id.partition("/")
        return NotFound(f"No file found with id '{file_id}' in vector store '{store_id}'.")

    file_id: Mapped[str]
    batch_id: Mapped[str | None]
    status: Mapped[VectorStoreFileStatus] = mapped_column(Text)
    usage_bytes: Mapped[int]
    last_error: Mapped[FileError | None] = mapped_column(Json(FileError))
    attributes: Mapped[Attributes] = mapped_column(Json(Attributes))
    chunking_strategy: Mapped[StaticChunking] = mapped_column(Json(StaticChunking))

    progress: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    embedding_model: Mapped[str | None]
    dimensions: Mapped[int | None]


class ChunkRow(Row):
    """A piece of a file's text, as search finds it; `start` and `end` are its place in that text, in characters.

    `vectors` holds one float16 vector of unit length per window of the text, `terms` what lexical search counts.
    Chunks do not go with their file but later, in pieces: removing 100,000 at once would hold SQLite's writer for seconds.
    """

    __tablename__ = "chunks"
    __table_args__ = (UniqueConstraint("store_file_seq", "position"), NEVER_AGAIN)

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    store_file_seq: Mapped[int]
    position: Mapped[int]
    text: Mapped[str]
    start: Mapped[int]
    end: Mapped[int]
    page: Mapped[int | None]
    heading: Mapped[str | None]
    vectors: Mapped[bytes] = mapped_column(LargeBinary)
    terms: Mapped[bytes] = mapped_column(LargeBinary)


class StrayChunksRow(Row):
    """The chunks of a file that is in its vector store no more: nothing finds them, and they are removed in pieces."""

    __tablename__ = "stray_chunks"

    store_file_seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
