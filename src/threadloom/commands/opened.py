"""What every command works on: the data directory, a migrated database, models, keys."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

from threadloom.api.context import Context
from threadloom.api.keys import Keys, ensure_project
from threadloom.blobs import open_blobs
from threadloom.config import Settings
from threadloom.db.clock import DatabaseClock
from threadloom.db.database import Database
from threadloom.db.failures import ConnectionLost
from threadloom.db.migrate import upgrade
from threadloom.errors import StartError
from threadloom.events import Feed
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models
from threadloom.retrieval.embedders import open_embedder
from threadloom.retrieval.index.opening import open_index
from threadloom.retrieval.reranker import open_reranker
from threadloom.retrieval.search import Search


class Closable(Protocol):
    """Has something to end."""

    async def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)


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
        raise StartError(f"The database does not answer: {reason(error)}") from None
    finally:
        await database.close()


def reason(error: OperationalError | ConnectionLost) -> str:
    """What the driver says."""
    cause = error if isinstance(error, OperationalError) else error.__cause__
    return str(cause.orig if isinstance(cause, DBAPIError) else cause)


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncGenerator[Context]:
    """All that the API and the worker are composed of. Raises StartError."""
    async with (
        open_database(settings) as database,
        build_models(settings, database.ids) as models,
        closing(open_embedder(settings)) as embedder,
        closing(open_index(settings, database)) as index,
        open_reranker(settings) as reranker,
    ):
        admin = settings.auth.admin_key
        keys = Keys(
            database,
            admin_key=admin.get_secret_value() if admin else None,
            default_project=await database.write(ensure_project),
        )
        yield Context(
            settings=settings,
            database=database,
            feed=Feed(database),
            models=models,
            keys=keys,
            blobs=open_blobs(settings),
            embedder=embedder,
            search=Search(embedder, index, reranker),
        )


@asynccontextmanager
async def closing(thing: Opened) -> AsyncGenerator[Opened]:
    try:
        yield thing
    finally:
        await thing.close()
