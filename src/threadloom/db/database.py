"""Transactions: `await db.read(action, …)` and `await db.write(action, …)`.

An action is a plain function of a `Tx`. It runs in a thread of the database's, in one transaction that commits
when it returns and rolls back when it raises. ADR 0002 tells why, with figures.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from threadloom.clock import Clock
from threadloom.db.engine import connect, create_engine, is_open, is_sqlite
from threadloom.db.failures import ConnectionLost, NotLocked, at_commit, before_commit
from threadloom.db.lane import Job, Lane
from threadloom.db.notify import Notifications, send
from threadloom.db.signal import Signal
from threadloom.db.tx import ProjectTx, Tx
from threadloom.ids import Ids

P = ParamSpec("P")
R = TypeVar("R")
SQLITE_READERS = 2
TRIES = 3
OWN = 2
"""Connections beside the pool: the listener's, and one for graphs of large vector stores."""


@dataclass(frozen=True)
class ProjectDatabase:
    """The database as one project sees it."""

    database: "Database"
    project_id: str

    def _tx(self, session: Session) -> ProjectTx:
        database = self.database
        return ProjectTx(session, database.clock, database.ids, project_id=self.project_id)

    async def read(
        self, action: Callable[Concatenate[ProjectTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self.database.run_read(self._tx, lambda tx: action(tx, *args, **kwargs))

    async def write(
        self, action: Callable[Concatenate[ProjectTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self.database.run_write(self._tx, lambda tx: action(tx, *args, **kwargs))


AnyTx = TypeVar("AnyTx", bound=Tx)


class Database:
    """Owns the engine, the threads and the wake-ups of one process."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        ids: Ids,
        pool_size: int = 8,
        direct_url: str | None = None,
    ) -> None:
        """`direct_url` leads past a pooler that gives connections away between transactions."""
        self.clock = clock
        self.ids = ids
        self.signal = Signal()
        self.engine: Engine = create_engine(url)
        sqlite = is_sqlite(self.engine)
        direct_url = direct_url or url
        self.direct = create_engine(direct_url, patient=True)
        """Past any pooler, and without bounds: for what takes minutes, or needs one connection for longer than a transaction."""
        self._notifications = (
            None
            if sqlite
            else Notifications(url, direct_url, self.signal, connections=pool_size + OWN)
        )
        self._reads = Lane(
            "db-read",
            partial(reach, self.engine),
            run_each,
            threads=SQLITE_READERS if sqlite else pool_size // 2,
            batch=False,
        )
        # SQLite has one writer, and one commit serves all that is queued.
        self._writes = Lane(
            "db-write",
            partial(reach, self.engine, write=True),
            run_together if sqlite else run_each,
            threads=1 if sqlite else pool_size - pool_size // 2,
            batch=sqlite,
        )

    def project(self, project_id: str) -> ProjectDatabase:
        return ProjectDatabase(self, project_id)

    def _tx(self, session: Session) -> Tx:
        return Tx(session, self.clock, self.ids)

    async def read(
        self, action: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an action that changes nothing, on one snapshot."""
        return await self.run_read(self._tx, lambda tx: action(tx, *args, **kwargs))

    async def write(
        self, action: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an action and commit; its wake-ups go out after the commit."""
        return await self.run_write(self._tx, lambda tx: action(tx, *args, **kwargs))

    async def run_read(self, begin: Callable[[Session], AnyTx], action: Callable[[AnyTx], R]) -> R:
        def job(connection: Connection) -> R:
            with open_session(connection) as session:
                return action(begin(session))

        return await self._reads.submit(job)

    async def run_write(self, begin: Callable[[Session], AnyTx], action: Callable[[AnyTx], R]) -> R:
        def job(connection: Connection) -> tuple[R, set[str]]:
            with open_session(connection) as session:
                tx = begin(session)
                result = action(tx)
                session.flush()
                if self._notifications and (channels := tx.woken | tx.told):
                    send(session, self._notifications.origin, channels)
                return result, tx.woken

        result, woken = await self._writes.submit(job)
        self.signal.notify(woken)
        return result

    async def close(self) -> None:
        if self._notifications:
            self._notifications.close()
        for lane in (self._writes, self._reads):
            await asyncio.to_thread(lane.close)
        self.engine.dispose()
        self.direct.dispose()


def reach(engine: Engine, *, write: bool = False) -> Connection:
    """A connection for one thread. Raises ConnectionLost."""
    with before_commit():
        return connect(engine, write=write)


@contextmanager
def open_session(connection: Connection) -> Generator[Session]:
    """A session inside the connection's transaction: it flushes, the lane commits."""
    session = Session(connection, expire_on_commit=False)
    try:
        yield session
    finally:
        session.close()


def run_each(connection: Connection, jobs: Sequence[Job]) -> None:
    """Each job in a transaction of its own, and again when it failed through no fault of its own.

    A connection breaks while it lies idle, and its next user learns of it; of two transactions that wait for each other
    PostgreSQL ends one, and it ends one that waits too long. Nothing was committed by then.
    """
    for job in jobs:
        for _ in range(TRIES - 1):
            try:
                run_one(connection, job)
                break
            except (ConnectionLost, NotLocked):
                continue
        else:
            run_one(connection, job)


def run_one(connection: Connection, job: Job) -> None:
    with before_commit():
        transaction = connection.begin()
    with at_commit(), transaction, before_commit():
        job.result = job.action(connection)


def run_together(connection: Connection, jobs: Sequence[Job]) -> None:
    """All jobs in one transaction; a job that raises undoes only itself."""
    if len(jobs) == 1:
        run_each(connection, jobs)
        return
    with connection.begin():
        for job in jobs:
            connection.exec_driver_sql("SAVEPOINT job")
            try:
                job.result = job.action(connection)
            except Exception as error:
                if not is_open(connection):
                    raise  # SQLite itself has undone all of it: there is no room, or no file
                job.error = error
                connection.exec_driver_sql("ROLLBACK TO job")
            connection.exec_driver_sql("RELEASE job")
