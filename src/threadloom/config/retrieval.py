"""Search: what embeds, ranks and reads documents."""

from typing import Literal

from pydantic import Field, SecretStr

from threadloom.config.values import Duration, Section

Attribution = Literal["embedded", "always", "never"]


class Embeddings(Section):
    """What turns text into vectors."""

    base_url: str | None = Field(
        default=None,
        description="OpenAI-compatible address, ending in `/v1`; unset means the embedded model.",
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")
    model: str | None = Field(default=None, description="Its model.")
    dimensions: int | None = Field(
        default=None, ge=1, description="Dimensions to ask it for; unset means its own."
    )
    batch: int = Field(default=64, ge=1, description="Texts that are sent in one request.")
    weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Its share of a hit's score; the words have the rest.",
    )


class RerankerSettings(Section):
    """What reads the passages that a search found against its question once more; off by default."""

    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Address of a server that speaks Jina's and Cohere's `/rerank`, without that; unset means none.",
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")
    model: str | None = Field(
        default=None, description="Its model; unset means the server's only one."
    )
    candidates: int = Field(
        default=50, ge=1, le=200, description="Passages that are sent to it for each query."
    )
    timeout: Duration = Field(
        default=10.0, description="How long a search waits for it; then it goes on without."
    )


class FileSearch(Section):
    """Vector stores and their search."""

    index: Literal["faiss", "pgvector"] = Field(
        default="faiss", description="`pgvector` needs PostgreSQL with that extension."
    )
    index_memory: int = Field(
        default=1024**3,
        ge=1024**2,
        description="Bytes of index kept in memory by one process; what was not used for longest goes first.",
    )
    ingestions: int = Field(
        default=16, ge=1, description="Files that one worker process ingests at once."
    )
    parsers: int = Field(
        default=2, ge=1, description="Processes that read documents for one worker process."
    )
    parser_memory: int = Field(
        default=1024**3, ge=128 * 1024**2, description="Bytes of memory that a parser may have."
    )
    parser_timeout: Duration = Field(
        default=45.0, description="To read one document; then it is failed."
    )
    max_tokens: int = Field(
        default=5_000_000, ge=1, description="Tokens that a file may have; a longer one is failed."
    )
    tables: bool = Field(
        default=False, description="Also take .csv and .xlsx files, which OpenAI refused."
    )
    result_tokens: int = Field(
        default=16_000, ge=100, description="Tokens of passages that a model is given for one call."
    )
    wait: Duration = Field(
        default=60.0, description="How long a run waits for its thread's files to be ingested."
    )
    attribution: Attribution = Field(
        default="embedded",
        description="For whose answers citations are added where a sentence clearly rests on a passage.",
    )
