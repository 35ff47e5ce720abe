"""Which processes run: each has a row, and says in it every ten seconds that it is there.

Rows of processes that were killed stay until nobody has seen them for `FORGET_AFTER`: until then an operator can see what was lost.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass

import structlog
from sqlalchemy import TextClause, delete, select, text
from sqlalchemy.exc import SQLAlchemyError

from threadloom import __version__
from threadloom.db.beats import ALIVE_FOR
from threadloom.db.database import Database
from threadloom.db.rows import ProcessKind, ProcessRow
from threadloom.db.tx import Tx

BEAT = 10.0
FORGET_AFTER = 600.0
LEAVE_WITHIN = 2.0
SEEN: TextClause = text(
    "INSERT INTO processes (id, kind, host, pid, version, started_at, seen_at) "
    "VALUES (:id, :kind, :host, :pid, :version, :started_at, :seen_at) "
    "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
)
log = structlog.get_logger()


@dataclass(frozen=True)
class Process:
    """A process as it tells of itself."""

    id: str
    kind: ProcessKind
    host: str
    pid: int
    version: str
    started_at: float


@asynccontextmanager
async def present(database: Database, kind: ProcessKind) -> AsyncGenerator[None]:
    """Let others see this process for as long as the block lasts; a database that is away does not disturb it."""
    now = database.clock.now()
    process = Process(
        database.ids.new("proc_"), kind, socket.gethostname(), os.getpid(), __version__, now
    )
    beating = asyncio.create_task(keep_beating(database, process))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        with suppress(SQLAlchemyError, TimeoutError):  # others will miss it anyhow
            async with asyncio.timeout(LEAVE_WITHIN):
                await database.write(leave, process.id)


async def keep_beating(database: Database, process: Process) -> None:
    """Until it is cancelled."""
    heard = True
    while True:
        try:
            await database.write(beat, process)
            heard = True
        except SQLAlchemyError as error:
            if heard:
                log.warning("heartbeat failed", error=type(error).__name__)
            heard = False
        await asyncio.sleep(BEAT)


def beat(tx: Tx, process: Process) -> None:
    """Say that it is there, also when it was forgotten meanwhile, and forget those that are long gone."""
    now = tx.clock.now()
    tx.session.execute(SEEN, asdict(process) | {"seen_at": now})
    gone = delete(ProcessRow).where(ProcessRow.seen_at < now - FORGET_AFTER)
    tx.session.execute(gone.execution_options(synchronize_session=False))


def leave(tx: Tx, process_id: str) -> None:
    this = delete(ProcessRow).where(ProcessRow.id == process_id)
    tx.session.execute(this.execution_options(synchronize_session=False))


def processes(tx: Tx) -> Sequence[ProcessRow]:
    """All that were seen lately, the lost ones too, the oldest first."""
    recent = ProcessRow.seen_at >= tx.clock.now() - FORGET_AFTER
    return tx.session.scalars(
        select(ProcessRow).where(recent).order_by(ProcessRow.started_at)
    ).all()


def is_alive(process: ProcessRow, now: float) -> bool:
    return process.seen_at >= now - ALIVE_FOR


def works(process: ProcessRow) -> bool:
    """It drives runs."""
    return process.kind != "api"
