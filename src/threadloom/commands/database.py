"""What every command works on: the data directory, and a migrated database."""

import asyncio
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from threadloom.config import Settings
from threadloom.db.clock import DatabaseClock
from threadloom.db.database import Database
from threadloom.db.failures import ConnectionLost, said_by
from threadloom.db.migrate import upgrade
from threadloom.errors import StartError
from threadloom.ids import RandomIds


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """The database, brought to this program's schema. Raises StartError, also where there is none yet."""
    refuse_no_database(settings)
    async with migrated(settings) as database:
        yield database


@asynccontextmanager
async def make_database(settings: Settings) -> AsyncGenerator[Database]:
    """The same for what may come first: where there is no database it makes one, and says so. Raises StartError."""
    missing = missing_file(settings)
    async with migrated(settings) as database:
        if missing is not None:
            print(f"Made a new database at {missing}.", file=sys.stderr, flush=True)  # noqa: T201
        yield database


def refuse_no_database(settings: Settings) -> None:
    """To look for it would make an empty one, mostly in the wrong directory. Raises StartError."""
    if (missing := missing_file(settings)) is not None:
        raise StartError(
            f"There is no database at {missing}. Run this with the settings of the server: in its directory, or with its --data-dir."
        )


def missing_file(settings: Settings) -> Path | None:
    """Where a SQLite database would be made; None if it is there, and on PostgreSQL."""
    url = make_url(settings.direct_database_url)
    path = Path(str(url.database)).absolute()
    return None if url.get_backend_name() != "sqlite" or path.is_file() else path


def make_data_dir(settings: Settings) -> None:
    """For this user alone: what clients said is in it. Raises StartError."""
    try:
        settings.data_dir.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"Cannot use the data directory {settings.data_dir}: {error}") from None


@asynccontextmanager
async def migrated(settings: Settings) -> AsyncGenerator[Database]:
    make_data_dir(settings)
    clock = DatabaseClock()
    database = Database(
        settings.database_url,
        clock=clock,
        ids=RandomIds(),
        pool_size=settings.database.pool_size,
        direct_url=settings.direct_database_url,
    )
    clock.follow(database.engine)
    try:
        await asyncio.to_thread(upgrade, database.engine)
        yield database
    except (OperationalError, ConnectionLost) as error:
        raise StartError(f"The database does not answer: {said_by(error)}") from None
    finally:
        await database.close()
