"""All settings: read once by the command line, handed down as one frozen tree.

The order is: flag, then `THREADLOOM_*` in the environment, then `.env`, then `config.yaml`, then the default.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from threadloom.errors import StartError

PREFIX = "THREADLOOM_"
DELIMITER = "__"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> object:
    """`10m`, `15s`, `500ms` or a bare number of seconds."""
    if isinstance(value, str) and (
        match := re.fullmatch(r"([\d.]+)\s*(ms|s|m|h|d)", value.strip())
    ):
        return float(match[1]) * UNITS[match[2]]
    return value


Attribution = Literal["embedded", "always", "never"]
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the tree; an unknown key in it stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(Section):
    """Who may call."""

    admin_key: SecretStr | None = Field(
        default=None,
        description="A key for the default project; when set, no key is generated or printed.",
    )


class DatabaseSettings(Section):
    """Where state lives."""

    url: str | None = Field(
        default=None,
        pattern=r"^(sqlite|postgres(ql)?(\+psycopg)?)://",
        description="`postgresql://…`; unset means a SQLite file in the data directory.",
    )
    pool_size: int = Field(
        default=8, ge=2, description="Connections (and threads) a process uses on PostgreSQL."
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


class Upstream(Section):
    """The one default provider: any server that speaks Chat Completions."""

    base_url: str | None = Field(
        default=None,
        description="Its address, ending in `/v1`; unset means the embedded model answers.",
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")


class ModelSettings(Section):
    """What is known of one model of a provider."""

    context_window: int = Field(
        default=128_000, ge=256, description="Tokens that fit, prompt and answer."
    )


class Provider(Section):
    """One of several providers in `config.yaml`."""

    name: str = Field(description="Shown as `owned_by` in `GET /v1/models`.")
    base_url: str | None = Field(
        default=None, description="Chat Completions address, ending in `/v1`."
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")
    gguf: Path | None = Field(
        default=None,
        description="A GGUF file run in the process (`threadloom[local]`), instead of `base_url`.",
    )
    models: dict[str, ModelSettings] = Field(
        default_factory=dict[str, ModelSettings],
        description="Names this provider answers; empty means all.",
    )


class ModelCalls(Section):
    """How models are called."""

    connect_timeout: Duration = Field(default=5.0, description="To open a connection.")
    first_token_timeout: Duration = Field(
        default=120.0, description="From the request to the first byte."
    )
    idle_timeout: Duration = Field(default=60.0, description="Between two pieces of an answer.")
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Further tries after 408, 409, 429, 5xx or a lost connection.",
    )
    context_window: int = Field(
        default=128_000,
        ge=256,
        description="Tokens that fit, for models of which nothing else is known.",
    )


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


class Runner(Section):
    """A process of its own that holds the sandboxes (`threadloom sandbox serve`), so that workers need no engine."""

    url: str | None = Field(
        default=None,
        pattern=r"^(unix:///|tcp://)",
        description="`unix:///run/threadloom/sandbox.sock` or `tcp://127.0.0.1:8485`; unset means that workers hold the sandboxes.",
    )
    token: SecretStr | None = Field(
        default=None, description="What both sides know; needed for `tcp://`."
    )


class CodeInterpreter(Section):
    """Where Python that models write is run."""

    runtime: Literal["docker", "bubblewrap", "none"] = Field(
        default="docker",
        description="`none` turns the tool off; `bubblewrap` is for development only, and refused for root.",
    )
    image: str = Field(
        default="threadloom-sandbox", description="Made by `threadloom sandbox build`."
    )
    docker_host: str | None = Field(
        default=None, description="Address of the engine; unset means the usual one."
    )
    oci_runtime: str | None = Field(
        default=None,
        description="The engine's runtime, `runsc` for gVisor; unset means its default.",
    )
    pool: int = Field(default=1, ge=0, description="Sandboxes kept ready for new threads.")
    max_sessions: int = Field(
        default=16, ge=1, description="Sandboxes in use at once; the one idle longest makes room."
    )
    memory: int = Field(
        default=1024**3,
        ge=256 * 1024**2,
        description="Bytes of memory of a sandbox, its files included.",
    )
    disk: int = Field(
        default=512 * 1024**2, ge=1024**2, description="Bytes of files that a sandbox may have."
    )
    cpus: float = Field(default=1.0, gt=0, description="Processors that a sandbox may use.")
    timeout: Duration = Field(default=120.0, description="How long one call may run.")
    idle: Duration = Field(default=1800.0, description="How long a sandbox outlives its last call.")
    life: Duration = Field(default=3600.0, description="How long a sandbox lives at most.")
    max_output: int = Field(
        default=64 * 1024, ge=256, description="Characters of output that one call may print."
    )
    max_pictures: int = Field(default=20, ge=0, description="Pictures that one call may show.")
    max_files: int = Field(
        default=100, ge=0, description="New and changed files that are kept of one call."
    )
    runner: Runner = Runner()


class Runs(Section):
    """The worker."""

    expires_after: Duration = Field(default=600.0, description="A run's life from its creation.")
    concurrency: int = Field(
        default=64, ge=1, description="Runs that one worker process drives at once."
    )
    lease: Duration = Field(
        default=15.0, description="How long a run stays with a worker that gives no sign of life."
    )
    max_turns: int = Field(
        default=50,
        ge=1,
        description="Model turns with tool calls before a run is failed as a loop.",
    )
    keep_events: Duration = Field(
        default=7 * 86400.0, description="How long the events of ended runs can be replayed."
    )


class Compat(Section):
    """Where the hosted service was stricter than its clients."""

    strict_beta_header: bool = Field(
        default=False,
        description="Refuse requests without `OpenAI-Beta: assistants=v2`, as OpenAI did.",
    )


class Server(Section):
    """The HTTP side."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8484, ge=0, le=65535, description="Port to listen on.")
    max_body: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Largest JSON body in bytes; a larger one is a 413.",
    )
    poll_after: Duration = Field(
        default=0.5,
        description="The polling interval recommended to SDKs (`openai-poll-after-ms`).",
    )


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
    compat: Compat = Compat()

    @property
    def database_url(self) -> str:
        """A SQLAlchemy URL."""
        url = self.database.url
        if url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'threadloom.db'}"
        return re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", url)


def load_settings(
    flags: Mapping[str, Any], *, config: Path | None = None, env_file: Path = Path(".env")
) -> Settings:
    """Read every source once. Raises StartError with a sentence that names what is wrong."""
    refuse_unknown_variables([*os.environ, *dotenv_values(env_file)])
    document = read_yaml(config)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # A `.env` file is shared with other programs: their names are not ours to refuse.
            ours = {k: v for k, v in dotenv_settings().items() if k in cls.model_fields}
            return (
                init_settings,
                env_settings,
                InitSettingsSource(settings_cls, ours),
                InitSettingsSource(settings_cls, document),
            )

    try:
        return Loaded(_env_file=env_file, **flags)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise StartError(explain(error)) from None
    except SettingsError as error:
        raise StartError(f"Cannot read the settings: {error}. Lists and maps are JSON.") from None


def read_yaml(path: Path | None) -> dict[str, Any]:
    """The settings file; without a path, `config.yaml` here if there is one."""
    chosen = path or Path("config.yaml")
    if path is None and not chosen.exists():
        return {}
    try:
        document: object = yaml.safe_load(chosen.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartError(f"Cannot read the settings file {chosen}: {error}") from None
    if not isinstance(document, dict) or not all(
        isinstance(name, str) for name in cast(dict[object, object], document)
    ):
        raise StartError(f"The settings file {chosen} must hold a mapping of names.")
    return cast(dict[str, Any], document)  # checked above


def variables(section: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    """The names of all environment variables, in the tree's order."""
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from variables(kind, variable + DELIMITER)
        else:
            yield variable


def refuse_unknown_variables(names: Iterable[str]) -> None:
    """A misspelled variable would otherwise be ignored in silence."""
    known = list(variables())
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise StartError(f"Unknown setting {name}.{suggestion(name.upper(), known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def explain(error: ValidationError) -> str:
    """One line for each fault, with the path as it stands in YAML."""
    return "\n".join(
        f"Setting {'.'.join(map(str, fault['loc']))}: {explain_fault(fault['type'], fault['msg'], fault['loc'])}"
        for fault in error.errors(include_url=False)
    )


def explain_fault(kind: str, text: str, path: tuple[int | str, ...]) -> str:
    if kind != "extra_forbidden":
        return text + "."
    known = section_at(path[:-1]).model_fields
    return f"unknown.{suggestion(str(path[-1]), known)}"


def section_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The section that a path of names and indexes leads to."""
    section: type[BaseModel] = Settings
    for name in path:
        kind = section.model_fields[name].annotation if name in section.model_fields else None
        for candidate in (kind, *get_args(kind)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                section = candidate
    return section
