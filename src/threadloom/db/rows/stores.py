"""Vector stores, their files and chunks."""

from sqlalchemy import (
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from threadloom.db.columns import Json, Serial
from threadloom.db.rows.base import NEVER_AGAIN, Leased, Owned, Row, index_where_set
from threadloom.errors import NotFound
from threadloom.types.vector_stores import (
    Attributes,
    ExpiresAfter,
    FileError,
    StaticChunking,
    VectorStoreFileStatus,
)


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
