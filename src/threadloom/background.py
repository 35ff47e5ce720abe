"""The composition root of what works behind the API: runs, ingestion, and clearing away."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from threadloom.api.context import Context
from threadloom.files import sweeping as files
from threadloom.retrieval import sweeping as stores
from threadloom.retrieval.ingest import Ingestion
from threadloom.retrieval.parsing import Parser
from threadloom.runs.file_search import FileSearch
from threadloom.runs.tools import BuiltInTools
from threadloom.worker import Worker

SWEEP_EVERY = 60.0
log = structlog.get_logger()


class Background:
    """All that works in one process beside the API, or without it."""

    def __init__(
        self, context: Context, parser: Parser, built_in: BuiltInTools | None = None
    ) -> None:
        """`built_in` are further tools, or others in the place of this server's own."""
        settings = context.settings
        self._context = context
        self._parser = parser
        self._worker = Worker(
            context.database,
            context.feed,
            context.models,
            settings.runs,
            {**own_tools(context), **(built_in or {})},
        )
        self._ingestion = Ingestion(
            context.database,
            context.blobs,
            parser,
            context.embedder,
            settings.file_search,
            folder=settings.data_dir / "tmp",
            lease=settings.runs.lease,
        )

    async def run(self) -> None:
        """Work until drained."""
        try:
            async with asyncio.TaskGroup() as helpers:
                sweeping = helpers.create_task(self._sweep())
                async with asyncio.TaskGroup() as workers:
                    workers.create_task(self._worker.run())
                    workers.create_task(self._ingestion.run())
                sweeping.cancel()
        finally:
            await self._parser.close()

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._worker.drain()
        self._ingestion.drain()

    async def _sweep(self) -> None:
        """Clear away what has expired, each minute."""
        while True:
            try:
                await files.sweep(self._context.database, self._context.blobs)
                await stores.sweep(self._context.database)
                await self._ingestion.sweep()
            except SQLAlchemyError as error:
                log.warning("sweeping failed", error=type(error).__name__)
            await asyncio.sleep(SWEEP_EVERY)


def own_tools(context: Context) -> BuiltInTools:
    """The tools that this server runs itself."""
    file_search = FileSearch(context.database, context.search, context.settings.file_search)
    return {"file_search": file_search}
