"""Engines and connections, and all that differs between SQLite and PostgreSQL."""

import sqlite3
import time
from contextlib import closing
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool

from threadloom.db.columns import dumps, loads

WRITE = "threadloom_write"
SQLITE_BUSY = 30.0
WAL_TRIES = 100
WAL_PAUSE = 0.05
POSTGRES_IDLE = "5s"
"""How long a process may stand still inside a transaction: a frozen one would keep its rows locked for ever."""
POSTGRES_LOCK = "1500ms"
"""How long a statement waits for a lock. Much less than the above: else the next transactions of a frozen process, which wait
in a row for the rows of its first, would get them when that one ends, and keep them as long again."""


def is_sqlite(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


def create_engine(url: str) -> Engine:
    """An engine without a pool: the lanes hold their connections themselves."""
    sqlite = make_url(url).get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"timeout": SQLITE_BUSY, "check_same_thread": False} if sqlite else {"connect_timeout": 10}
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
        event.listen(engine, "connect", prepare_postgres)
    return engine


def prepare_sqlite(connection: DBAPIConnection, _: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # or the driver begins by itself, late, and loses updates
    switch_to_wal(connection)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
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


def prepare_postgres(connection: DBAPIConnection, _: object) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{POSTGRES_IDLE}'")
        cursor.execute(f"SET lock_timeout = '{POSTGRES_LOCK}'")
    connection.commit()


def begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def connect(engine: Engine, *, write: bool = False) -> Connection:
    """A connection for one thread, kept open. On SQLite a writer locks when it begins."""
    return engine.connect().execution_options(**{WRITE: write})
