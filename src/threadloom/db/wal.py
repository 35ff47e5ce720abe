"""SQLite's write-ahead log keeps what was deleted until it is written over: it is emptied now and then."""

import sqlite3
from contextlib import closing, suppress

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from threadloom.db.engine import SQLITE_BUSY, is_sqlite
from threadloom.db.failures import said_by
from threadloom.errors import StartError

PATIENCE = 0.1
"""Seconds: who writes or reads meanwhile is not to wait."""


def empty_log(engine: Engine) -> None:
    """Put all of the log into the database file, and leave nothing in it. Under load that may have to wait for the next time."""
    if not is_sqlite(engine):
        return
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(str(engine.url.database), timeout=PATIENCE)) as connection,
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def compact(engine: Engine) -> None:
    """Write the whole database anew, without what was deleted before anything overwrote it. Others wait meanwhile. Raises StartError."""
    try:
        if is_sqlite(engine):
            with closing(sqlite3.connect(str(engine.url.database), timeout=SQLITE_BUSY)) as file:
                file.execute("VACUUM")
            empty_log(engine)
        else:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM FULL")
    except (sqlite3.OperationalError, OperationalError) as error:
        said = said_by(error) if isinstance(error, OperationalError) else error
        raise StartError(
            f"The database is as it was: {said}. To be written anew it needs up to twice its size in free space."
        ) from None
