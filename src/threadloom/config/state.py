"""Where state lives."""

from pydantic import Field, SecretStr

from threadloom.config.values import Section


class DatabaseSettings(Section):
    """Where state lives."""

    url: str | None = Field(
        default=None,
        pattern=r"^(sqlite|postgres(ql)?(\+psycopg)?)://",
        description="`postgresql://…`; unset means a SQLite file in the data directory.",
    )
    direct_url: str | None = Field(
        default=None,
        pattern=r"^postgres(ql)?(\+psycopg)?://",
        description="The same database past a pooler such as PgBouncer, for wake-ups and for building indexes; "
        "unset means `url`.",
    )
    pool_size: int = Field(
        default=8,
        ge=2,
        description="Connections (and threads) a process uses on PostgreSQL, beside two of its own.",
    )


class S3(Section):
    """How to reach the bucket of `storage.url`."""

    endpoint: str | None = Field(
        default=None, description="Address of a server other than Amazon's."
    )
    region: str | None = Field(default=None, description="Its region.")
    access_key_id: str | None = Field(
        default=None, description="Its key's id; unset means the machine's own credentials."
    )
    secret_access_key: SecretStr | None = Field(default=None, description="Its key.")


class Storage(Section):
    """Where file bytes live."""

    url: str | None = Field(
        default=None,
        pattern=r"^(s3|gs|az|file)://",
        description="`s3://bucket/prefix`, `gs://…`, `az://…` or `file:///…`; unset means the data directory.",
    )
    s3: S3 = S3()


class Files(Section):
    """Files and uploads."""

    max_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1, description="Largest file sent in one request."
    )
    max_upload_bytes: int = Field(
        default=8 * 1024**3, ge=1, description="Largest file sent as an upload in parts."
    )
    max_part_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="Largest part of an upload."
    )
    download_all: bool = Field(
        default=True,
        description="Let files of every purpose be downloaded; OpenAI refused `assistants` and `user_data`.",
    )
