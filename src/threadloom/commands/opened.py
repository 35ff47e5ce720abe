"""What the processes work on: an open database, models, keys, and what searches."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from threadloom.api.context import Context
from threadloom.api.keys import Keys, ensure_project
from threadloom.blobs import open_blobs
from threadloom.commands.database import make_database
from threadloom.config import Settings
from threadloom.events import Feed
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
async def open_context(settings: Settings) -> AsyncGenerator[Context]:
    """All that the API and the worker are composed of. Raises StartError."""
    async with (
        make_database(settings) as database,
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
