"""The database: whether it answers, fits this program, and what its rows tell of workers, keys and vectors."""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError

from threadloom import processes
from threadloom.commands import status
from threadloom.commands.doctor.findings import Finding, fitting, green, red, yellow
from threadloom.commands.looking import opened, snapshot
from threadloom.config import Settings
from threadloom.db.engine import is_sqlite
from threadloom.db.failures import said_by
from threadloom.db.migrate import scripts
from threadloom.db.rows import ApiKeyRow, AssistantRow, VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError

OLDEST_VECTOR = (0, 8)
OFF, FAR_OFF = 2.0, 30.0
"""Seconds between two clocks: signatures of object stores and certificates suffer from more."""
SLOW = 60.0
MOST_MODELS = 5
DATABASE_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"
VECTOR = """
    SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),
                    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))
"""


@dataclass(frozen=True)
class Embedded:
    """Files whose vectors one model made."""

    model: str | None
    dimensions: int | None
    files: int


@dataclass
class Records:
    """What was found, and what further checks need to know.

    `models` are the names that assistants have. `serves_only`: processes of this host are there, and none of them works.
    """

    findings: list[Finding] = field(default_factory=list[Finding])
    models: Sequence[str] = ()
    embedded: Sequence[Embedded] = ()
    serves_only: bool = False


def read_records(settings: Settings) -> Records:
    """Blocks; the engine's own limits bound it."""
    records = Records()
    try:
        with opened(settings) as engine:
            read(engine, settings, records)
    except StartError as error:
        mend = "If there should be one: look at THREADLOOM_DATA_DIR and THREADLOOM_DATABASE__URL."
        records.findings.append(yellow("database", str(error), mend))
    except DBAPIError as error:
        records.findings.append(away(settings, error))
    return records


def away(settings: Settings, error: DBAPIError) -> Finding:
    mend = (
        "Check THREADLOOM_DATABASE__URL, and that PostgreSQL runs and lets this user in."
        if settings.database.url and settings.database.url.startswith("postgres")
        else "Let the user who runs Threadloom write the file and its directory, on a local disk that is not full."
    )
    return red("database", f"does not answer: {said_by(error)}", mend)


def read(engine: Engine, settings: Settings, records: Records) -> None:
    """Raises DBAPIError."""
    with snapshot(engine) as tx:
        records.findings += [look_at_database(tx, engine), *look_at_vectors(tx, engine, settings)]
        revision = MigrationContext.configure(tx.session.connection()).get_current_revision()
        schema = look_at_schema(revision)
        records.findings += [schema, *look_at_clock(tx, engine)]
        if schema.colour != "green":
            return  # the rows below may not be there
        records.findings += [look_at_keys(tx, settings), *look_at_workers(tx)]
        records.models = models_of(tx)
        records.embedded = embedded(tx)
        records.serves_only = serves_only(tx)


def look_at_database(tx: Tx, engine: Engine) -> Finding:
    if not is_sqlite(engine):
        version = tx.session.execute(text("SHOW server_version")).scalar_one()
        return green("database", f"PostgreSQL {version.split()[0]} answers")
    version = tx.session.execute(text("SELECT sqlite_version()")).scalar_one()
    mode = tx.session.execute(text("PRAGMA journal_mode")).scalar_one()
    if mode != "wal":
        mend = "Put the data directory on a local disk: network file systems cannot hold SQLite's write-ahead log."
        return red("database", f"SQLite {version} is in journal mode {mode}, not wal", mend)
    return green("database", f"SQLite {version} answers, with a write-ahead log")


def look_at_vectors(tx: Tx, engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Only where the settings need it."""
    if settings.file_search.index != "pgvector" or is_sqlite(engine):
        return
    found: str | None = tx.session.execute(text(VECTOR)).scalar()
    mend = "Install pgvector 0.8 or later on PostgreSQL's machine, or set THREADLOOM_FILE_SEARCH__INDEX=faiss."
    if found is None:
        yield red("pgvector", "this PostgreSQL has no extension `vector`", mend)
    elif tuple(map(int, found.split(".")[:2])) < OLDEST_VECTOR:
        yield red("pgvector", f"{found} is too old", mend)
    else:
        yield green("pgvector", f"{found} is there")


def look_at_schema(revision: str | None) -> Finding:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    known = ScriptDirectory.from_config(config)
    head = known.get_current_head()
    if revision == head:
        return green("schema", f"{head}, which is this program's")
    if revision is not None and revision not in {one.revision for one in known.walk_revisions()}:
        mend = "Upgrade Threadloom, or restore a backup from before the upgrade."
        return red("schema", f"{revision} is newer than this program, which knows {head}", mend)
    mend = fitting(
        "Run `threadloom db upgrade`; `threadloom serve` does it at its start too.",
        "Run `docker compose up migrate`, which says why it fails if it does.",
    )
    return red("schema", f"{revision or 'none'} is older than this program's, {head}", mend)


def look_at_clock(tx: Tx, engine: Engine) -> Iterator[Finding]:
    """SQLite has no clock but this machine's."""
    if is_sqlite(engine):
        return
    before = time.time()  # noqa: TID251 - the machine's clock is what is examined
    there: float = tx.session.execute(text(DATABASE_TIME)).scalar_one()
    here = (before + time.time()) / 2  # noqa: TID251
    apart = abs(there - here)
    says = f"this machine's and the database's are {apart:.1f} seconds apart"
    mend = "Let both machines set their clocks by the network: `timedatectl set-ntp true`."
    if apart > FAR_OFF:
        yield red("clock", says, mend)
    else:
        yield yellow("clock", says, mend) if apart > OFF else green("clock", says)


def look_at_keys(tx: Tx, settings: Settings) -> Finding:
    made = tx.session.scalar(select(func.count()).select_from(ApiKeyRow)) or 0
    working = select(func.count()).select_from(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))
    count = tx.session.scalar(working) or 0
    if settings.auth.admin_key is not None:
        return green("keys", f"the admin key, and {count} others")
    if count:
        return green("keys", f"{count} that work")
    if made:
        return red("keys", "all keys are revoked", "Run `threadloom keys create`.")
    mend = "The first `threadloom serve` makes one, or run `threadloom keys create`."
    return yellow("keys", "there is none yet", mend)


def look_at_workers(tx: Tx) -> Iterator[Finding]:
    """Whether anybody works, and how long work waits."""
    now = tx.clock.now()
    seen = [one for one in processes.processes(tx) if processes.works(one)]
    alive = [one for one in seen if processes.is_alive(one, now)]
    waiting = status.backlog(tx)
    oldest = max(waiting.oldest_run, waiting.oldest_file)
    says = f"{waiting.runs} runs and {waiting.files} files wait"
    if oldest:
        says += f", the oldest for {oldest:.0f} s"
    if not alive:
        lost = (
            f"; one on {seen[-1].host} was last seen {now - seen[-1].seen_at:.0f} s ago"
            if seen
            else ""
        )
        mend = fitting(
            "Start `threadloom serve` (it works too, unless it was told not to) or `threadloom worker`.",
            "Run `docker compose up -d worker`; `docker compose logs worker` says why there is none.",
        )
        yield red("workers", f"none is alive{lost}; {says}", mend)
    elif oldest > SLOW:
        more = fitting("Start more `threadloom worker`", "Let WORKERS in .env be more")
        mend = f"{more}, or raise THREADLOOM_RUNS__CONCURRENCY; `threadloom status` shows what they do."
        yield yellow("workers", f"{len(alive)} alive; {says}", mend)
    else:
        yield green("workers", f"{len(alive)} alive; {says}")


def serves_only(tx: Tx) -> bool:
    now, host = tx.clock.now(), socket.gethostname()
    here = [
        one for one in processes.processes(tx) if one.host == host and processes.is_alive(one, now)
    ]
    return bool(here) and not any(map(processes.works, here))


def models_of(tx: Tx) -> Sequence[str]:
    """The models that most assistants name."""
    names = (
        select(AssistantRow.model)
        .group_by(AssistantRow.model)
        .order_by(func.count().desc(), AssistantRow.model)
        .limit(MOST_MODELS)
    )
    return tx.session.scalars(names).all()


def embedded(tx: Tx) -> Sequence[Embedded]:
    model, dimensions = VectorStoreFileRow.embedding_model, VectorStoreFileRow.dimensions
    found = tx.session.execute(
        select(model, dimensions, func.count())
        .where(VectorStoreFileRow.status == "completed")
        .group_by(model, dimensions)
    )
    return [Embedded(*row) for row in found]
