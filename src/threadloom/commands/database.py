"""What every command works on: the data directory, and a migrated database."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

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
    """The database, brought to this program's schema. Raises StartError."""
    clock = DatabaseClock()
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        database = Database(
            settings.database_url,
            clock=clock,
            ids=RandomIds(),
            pool_size=settings.database.pool_size,
            direct_url=settings.direct_database_url,
        )
    except OSError as error:
        raise StartError(f"Cannot use the data directory {settings.data_dir}: {error}") from None
    clock.follow(database.engine)
    try:
        await asyncio.to_thread(upgrade, database.engine)
        yield database
    except (OperationalError, ConnectionLost) as error:
        raise StartError(f"The database does not answer: {said_by(error)}") from None
    finally:
        await database.close()
