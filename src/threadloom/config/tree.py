"""The whole tree of settings."""

import re
from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

from threadloom.config.idempotency import Idempotency
from threadloom.config.limits import Limits
from threadloom.config.models import ModelCalls, Provider, Upstream
from threadloom.config.outbound import Outbound
from threadloom.config.retention import Retention
from threadloom.config.retrieval import Embeddings, FileSearch, RerankerSettings
from threadloom.config.runs import CodeInterpreter, Runs
from threadloom.config.server import Auth, Compat, Server
from threadloom.config.state import DatabaseSettings, Files, Storage
from threadloom.config.telemetry import Telemetry
from threadloom.config.webhooks import Webhooks

PREFIX = "THREADLOOM_"


DELIMITER = "__"


class Settings(BaseSettings):
    """The whole tree; sections follow."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, frozen=True, extra="forbid"
    )

    data_dir: Path = Field(
        default=Path(".threadloom"), description="SQLite file, file bytes and caches."
    )
    server: Server = Server()
    auth: Auth = Auth()
    database: DatabaseSettings = DatabaseSettings()
    storage: Storage = Storage()
    files: Files = Files()
    upstream: Upstream = Upstream()
    providers: tuple[Provider, ...] = Field(
        default=(), description="Several providers; the first that answers a model's name is used."
    )
    aliases: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Model names that clients send, with `*`, to names that providers know.",
    )
    models: ModelCalls = ModelCalls()
    embeddings: Embeddings = Embeddings()
    reranker: RerankerSettings = RerankerSettings()
    file_search: FileSearch = FileSearch()
    code_interpreter: CodeInterpreter = CodeInterpreter()
    runs: Runs = Runs()
    limits: Limits = Limits()
    idempotency: Idempotency = Idempotency()
    webhooks: Webhooks = Webhooks()
    retention: Retention = Retention()
    outbound: Outbound = Outbound()
    telemetry: Telemetry = Telemetry()
    compat: Compat = Compat()

    @property
    def database_url(self) -> str:
        """A SQLAlchemy URL."""
        url = self.database.url
        if url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'threadloom.db'}"
        return sqlalchemy_url(url)

    @property
    def direct_database_url(self) -> str:
        """The same, past any pooler."""
        url = self.database.direct_url
        return self.database_url if url is None else sqlalchemy_url(url)


def sqlalchemy_url(url: str) -> str:
    return re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", url)
