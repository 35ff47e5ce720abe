"""Engines and connections, and all that differs between SQLite and PostgreSQL."""

import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final, LiteralString

import sqlalchemy
from psycopg import Connection as Psycopg
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import NullPool

from threadloom.db.columns import dumps, loads

WRITE = "threadloom_write"
SQLITE_BUSY = 30.0
WAL_TRIES = 100
WAL_PAUSE = 0.05
POSTGRES_CONNECTS: Mapping[str, Any] = {
    "connect_timeout": 5,
    # A server whose machine is gone says nothing: the kernel gives up on it.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "fallback_application_name": "threadloom",
}
POSTGRES_IDLE: Final = "5s"
"""How long a process may stand still inside a transaction: a frozen one would keep its rows locked for ever."""
POSTGRES_LOCK: Final = "1500ms"
"""How long a statement waits for a lock. Much less than the above: else the next transactions of a frozen process, which wait
in a row for the rows of its first, would get them when that one ends, and keep them as long again."""
POSTGRES_STATEMENT: Final = "30s"
"""How long a statement may take. None of ours takes a second: what does waits for something that does not come."""


def is_sqlite(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


def create_engine(url: str, *, patient: bool = False) -> Engine:
    """An engine without a pool: the lanes hold their connections themselves.

    With `patient`, statements may take as long as they need, and wait as long for locks.
    """
    sqlite = make_url(url).get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"timeout": SQLITE_BUSY, "check_same_thread": False} if sqlite else dict(POSTGRES_CONNECTS)
    )
    engine = sqlalchemy.create_engine(
        url,
        poolclass=NullPool,
        json_serializer=dumps,
        json_deserializer=loads,
        connect_args=arguments,
        hide_parameters=True,  # they are messages, and errors are logged
    )
    if sqlite:
        event.listen(engine, "connect", prepare_sqlite)
        event.listen(engine, "begin", begin_sqlite)
    else:
        event.listen(engine, "handle_error", close_lost)
        if not patient:
            Bounds(engine)
    return engine


def prepare_sqlite(connection: DBAPIConnection, _: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # or the driver begins by itself, late, and loses updates
    switch_to_wal(connection)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Of two processes that open a new file at once, SQLite refuses one without waiting: it tries again."""
    for _ in range(WAL_TRIES - 1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(WAL_PAUSE)
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


class Bounds:
    """How long a transaction may take, wait and stand still on PostgreSQL.

    A pooler such as PgBouncer gives each transaction whichever connection is free: there the bounds are set in every
    transaction, and no statement is prepared, which another connection would not know.
    """

    def __init__(self, engine: Engine) -> None:
        self._pooled = False
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "begin", self._on_begin)

    def _on_connect(self, connection: DBAPIConnection, _: object) -> None:
        assert isinstance(connection, Psycopg)
        if is_pooled(connection):
            connection.prepare_threshold = None
            self._pooled = True
        else:
            connection.execute(bounds(local=False))
        connection.commit()

    def _on_begin(self, connection: Connection) -> None:
        if self._pooled:
            connection.exec_driver_sql(bounds(local=True))


def close_lost(context: ExceptionContext) -> None:
    """Close the cursor whose connection was lost: SQLAlchemy leaves it open, and the driver warns of one that read piece by piece."""
    execution = context.execution_context
    if context.is_disconnect and execution is not None:
        execution.cursor.close()


def is_pooled(connection: "Psycopg[Any]") -> bool:
    """Whether a pooler stands between: it makes up the number of the process that it announces."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found is not None and found[0] != connection.info.backend_pid


def bounds(*, local: bool) -> LiteralString:
    where = "true" if local else "false"
    return (
        f"SELECT set_config('idle_in_transaction_session_timeout', '{POSTGRES_IDLE}', {where}), "
        f"set_config('lock_timeout', '{POSTGRES_LOCK}', {where}), "
        f"set_config('statement_timeout', '{POSTGRES_STATEMENT}', {where})"
    )


def begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def connect(engine: Engine, *, write: bool = False) -> Connection:
    """A connection for one thread, kept open. On SQLite a writer locks when it begins."""
    return engine.connect().execution_options(**{WRITE: write})


def is_open(connection: Connection) -> bool:
    """Whether a SQLite transaction is still under way: without room or file SQLite undoes it by itself."""
    driver = connection.connection.driver_connection
    return isinstance(driver, sqlite3.Connection) and driver.in_transaction
