"""`threadloom status`: what the processes do, on one screen. Never what is said in threads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from threadloom import __version__, leases
from threadloom.commands.looking import kind_of, opened, snapshot, sqlite_file
from threadloom.config import Settings
from threadloom.db.failures import said_by
from threadloom.db.rows import (
    FileRow,
    ProcessKind,
    RunRow,
    SandboxFileRow,
    UploadPartRow,
    VectorStoreFileRow,
    VectorStoreRow,
    WebhookDeliveryRow,
)
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.processes import is_alive, processes

DAY = 86400


@dataclass(frozen=True)
class Seen:
    """A process; it is `lost` when it has not been seen for longer than it should."""

    kind: ProcessKind
    host: str
    pid: int
    version: str
    started_at: float
    seconds_since_seen: float
    lost: bool


@dataclass(frozen=True)
class Backlog:
    """What waits for a worker: how much, and the oldest for how many seconds."""

    runs: int
    oldest_run: float
    files: int
    oldest_file: float
    webhooks: int


@dataclass(frozen=True)
class Stored:
    """Bytes and counts."""

    files: int
    file_bytes: int
    vector_stores: int
    database_bytes: int


@dataclass(frozen=True)
class Failures:
    """Runs that failed within a day with one code."""

    code: str
    runs: int
    last_at: int


@dataclass(frozen=True)
class Status:
    """All of it."""

    version: str
    database: str
    processes: Sequence[Seen]
    waiting: Backlog
    runs: Mapping[str, int]
    stored: Stored
    failures: Sequence[Failures]


def status(settings: Settings) -> Status:
    """Raises StartError."""
    try:
        with opened(settings) as engine, snapshot(engine) as tx:
            return Status(
                version=__version__,
                database=kind_of(engine),
                processes=seen(tx),
                waiting=backlog(tx),
                runs=runs_by_status(tx),
                stored=stored(tx, settings),
                failures=failures(tx),
            )
    except DBAPIError as error:
        raise StartError(
            f"The database does not tell: {said_by(error)}. `threadloom doctor` says how to mend it."
        ) from None


def seen(tx: Tx) -> list[Seen]:
    now = tx.clock.now()
    return [
        Seen(
            row.kind,
            row.host,
            row.pid,
            row.version,
            row.started_at,
            max(0.0, now - row.seen_at),
            not is_alive(row, now),
        )
        for row in processes(tx)
    ]


def backlog(tx: Tx) -> Backlog:
    """What is due and nobody has taken."""
    runs = leases.backlog(tx, RunRow, RunRow.status == "queued")
    files = leases.backlog(tx, VectorStoreFileRow)
    webhooks = leases.backlog(tx, WebhookDeliveryRow)
    return Backlog(runs.due, runs.oldest, files.due, files.oldest, webhooks.due)


def runs_by_status(tx: Tx) -> dict[str, int]:
    found = tx.session.execute(select(RunRow.status, func.count()).group_by(RunRow.status))
    return {name: count for name, count in sorted(found)}  # noqa: C416 - rows are no tuples to a type checker


def stored(tx: Tx, settings: Settings) -> Stored:
    linked = select(FileRow.id).where(FileRow.id == SandboxFileRow.id).exists()
    sums = (
        select(func.sum(FileRow.bytes)),
        select(func.sum(UploadPartRow.bytes)),
        select(func.sum(SandboxFileRow.size)).where(~linked),
    )
    file = sqlite_file(settings)
    if file is not None:
        size = file.stat().st_size
    else:
        size = tx.session.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return Stored(
        files=tx.session.scalar(select(func.count()).select_from(FileRow)) or 0,
        file_bytes=sum(int(tx.session.scalar(one) or 0) for one in sums),
        vector_stores=tx.session.scalar(select(func.count()).select_from(VectorStoreRow)) or 0,
        database_bytes=int(size),
    )


def failures(tx: Tx) -> list[Failures]:
    """By code: what was said in an error may quote a conversation."""
    failed = select(RunRow.last_error, RunRow.failed_at).where(
        RunRow.status == "failed", RunRow.failed_at >= tx.now - DAY
    )
    counts, last = Counter[str](), dict[str, int]()
    for error, failed_at in tx.session.execute(failed):
        code = error.code if error else "unknown"
        counts[code] += 1
        last[code] = max(last.get(code, 0), failed_at or 0)
    return [Failures(code, count, last[code]) for code, count in counts.most_common()]
