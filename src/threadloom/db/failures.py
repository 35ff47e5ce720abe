"""What an error of the database means: that it is away for a while, that it is full, or that a statement is wrong."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import psycopg
from psycopg.errors import (
    DeadlockDetected,
    DiskFull,
    IdleInTransactionSessionTimeout,
    LockNotAvailable,
    ReadOnlySqlTransaction,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from threadloom.errors import DatabaseUnavailable, NoRoom, Unavailable

P = ParamSpec("P")
R = TypeVar("R")
PATIENCE = 20.0
PAUSE = 0.5
PRIMARY = 0xFF
"""SQLite's extended codes have the plain one in their lowest byte."""
SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class ConnectionLost(SQLAlchemyError):
    """The database was away or went away before the commit: nothing was done."""


class NotLocked(SQLAlchemyError):
    """The transaction waited too long for a lock, or for one that waited for it, and the database ended it."""


@contextmanager
def before_commit() -> Generator[None]:
    """Tells apart, of what goes wrong here, what may be done again: nothing was committed yet."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated or is_away(error.orig):
            raise ConnectionLost from error
        if isinstance(error.orig, (DeadlockDetected, LockNotAvailable)):
            raise NotLocked from error
        raise


@contextmanager
def at_commit() -> Generator[None]:
    """What may be done again although it was to be committed: PostgreSQL had ended it, because this process stood still."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, IdleInTransactionSessionTimeout):
            raise ConnectionLost from error
        raise


async def patiently(perform: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Wait for a database that is away, or for a lock, for those who would lose work. Raises ConnectionLost or NotLocked in the end."""
    give_up = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            return await perform(*args, **kwargs)
        except (ConnectionLost, NotLocked):
            if asyncio.get_running_loop().time() > give_up:
                raise
        await asyncio.sleep(PAUSE)


def refusal(error: SQLAlchemyError) -> Unavailable | None:
    """What clients are told when the database cannot serve them now; None: it could, and something is wrong."""
    if isinstance(error, (ConnectionLost, NotLocked)):
        return DatabaseUnavailable()
    if not isinstance(error, DBAPIError):
        return None
    if is_full(error.orig):
        return NoRoom()
    if error.connection_invalidated or is_unable(error.orig):
        return DatabaseUnavailable()
    return None


def is_away(error: BaseException | None) -> bool:
    """Whether PostgreSQL could not be connected to: such an error has no code of the server's, or says that it takes nobody."""
    return isinstance(error, psycopg.OperationalError) and (
        error.sqlstate is None or error.sqlstate.startswith(("08", "53300", "57P0"))
    )


def is_full(error: BaseException | None) -> bool:
    return isinstance(error, DiskFull) or sqlite_code(error) == sqlite3.SQLITE_FULL


def is_unable(error: BaseException | None) -> bool:
    """PostgreSQL: it ends, waits too long, or follows another server. SQLite: the file is held, or cannot be written."""
    return (
        isinstance(error, (psycopg.OperationalError, ReadOnlySqlTransaction))
        or sqlite_code(error) in SQLITE_AWAY
    )


def sqlite_code(error: BaseException | None) -> int | None:
    """SQLite's own code of an error, if it is one of SQLite's."""
    return error.sqlite_errorcode & PRIMARY if isinstance(error, sqlite3.Error) else None


def said_by(error: SQLAlchemyError) -> str:
    """What the driver says, without the hints that follow."""
    cause = error.__cause__ if isinstance(error, ConnectionLost) else error
    said = cause.orig if isinstance(cause, DBAPIError) else cause
    return str(said).partition("\n")[0]
