"""The composition root of what works behind the API: runs, ingestion, webhooks, and clearing away."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from threadloom import usage
from threadloom.api import keyed
from threadloom.api.context import Context
from threadloom.db.database import Database
from threadloom.db.rows import ThreadRow
from threadloom.db.tx import Tx
from threadloom.errors import BlobMissing, StorageUnavailable
from threadloom.keeping.sweeping import Keeping
from threadloom.retrieval.ingest import Ingestion
from threadloom.retrieval.parsing import Parser
from threadloom.runs.code_interpreter import CodeInterpreter
from threadloom.runs.file_search import FileSearch
from threadloom.runs.pictures import Pictures
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox import opening
from threadloom.sandbox.session import Sandbox, SandboxUnavailable
from threadloom.webhooks.delivery import Deliveries
from threadloom.worker import Worker

SWEEP_EVERY = 60.0
log = structlog.get_logger()


class Background:
    """All that works in one process beside the API, or without it."""

    def __init__(
        self,
        context: Context,
        parser: Parser,
        sandbox: Sandbox,
        built_in: BuiltInTools | None = None,
    ) -> None:
        """`built_in` are further tools, or others in the place of this server's own."""
        settings = context.settings
        self._context = context
        self._parser = parser
        self._sandbox = sandbox
        self._problem: str | None = None
        self._pictures = Pictures(
            context.database, context.blobs, settings.models, settings.outbound
        )
        self._worker = Worker(
            context.database,
            context.feed,
            context.models,
            settings.runs,
            {**own_tools(context, sandbox), **(built_in or {})},
            download_all=settings.files.download_all,
            pictures=self._pictures,
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
        self._deliveries = Deliveries(
            context.database, settings.webhooks, settings.outbound, lease=settings.runs.lease
        )
        self._keeping = Keeping(
            context.database, context.blobs, settings.retention, settings.data_dir
        )

    async def run(self) -> None:
        """Work until drained."""
        try:
            async with asyncio.TaskGroup() as helpers:
                sandboxes = helpers.create_task(self._start_sandboxes())
                sweeping = helpers.create_task(self._keep_sweeping())
                async with asyncio.TaskGroup() as workers:
                    workers.create_task(self._worker.run())
                    workers.create_task(self._ingestion.run())
                    workers.create_task(self._deliveries.run())
                sandboxes.cancel()
                sweeping.cancel()
        finally:
            await self._pictures.close()
            await self._parser.close()
            await self._sandbox.close()

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._worker.drain()
        self._ingestion.drain()
        self._deliveries.drain()

    async def _start_sandboxes(self) -> None:
        problem = await opening.start(self._sandbox)
        if not isinstance(self._sandbox, opening.NoSandbox):  # that was chosen
            self._tell(problem)

    def _tell(self, problem: str | None) -> None:
        """Why code cannot be run, once for as long as it is so."""
        if problem and problem != self._problem:
            log.warning("code cannot be run", reason=problem)
        self._problem = problem

    async def _keep_sweeping(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Clear away what has expired, and what belongs to nobody any more."""
        database = self._context.database
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            **self._keeping.steps,
            "copies of documents": self._ingestion.sweep,
            "usage": partial(database.write, usage.forget),
            "webhooks": self._deliveries.sweep,
            "idempotency": partial(keyed.sweep, database, self._context.settings.idempotency.keep),
        }
        for step, sweep in steps.items():
            await attempt(step, sweep)
        await attempt("sandboxes", self._sweep_sandboxes)

    async def _sweep_sandboxes(self) -> None:
        try:
            await end_orphans(self._context.database, self._sandbox)
            await opening.sweep(self._sandbox)
            self._problem = None
        except SandboxUnavailable as error:
            self._tell(str(error))


async def attempt(step: str, sweep: Callable[[], Awaitable[object]]) -> None:
    """What stands in the way of one step is not to stop the others, and still less the process."""
    try:
        await sweep()
    except (SQLAlchemyError, OSError, BlobMissing, StorageUnavailable) as error:
        log.warning("sweeping failed", step=step, error=type(error).__name__)


def own_tools(context: Context, sandbox: Sandbox) -> BuiltInTools:
    """The tools that this server runs itself."""
    settings = context.settings
    return {
        "file_search": FileSearch(context.database, context.search, settings.file_search),
        "code_interpreter": CodeInterpreter(
            context.database, context.blobs, sandbox, settings.code_interpreter
        ),
    }


async def end_orphans(database: Database, sandbox: Sandbox) -> None:
    """End the sandboxes of threads that were deleted."""
    keys = await sandbox.keys()
    missing = await database.read(missing_threads, keys)
    await asyncio.gather(*map(sandbox.end, missing))


def missing_threads(tx: Tx, thread_ids: Sequence[str]) -> set[str]:
    """Those that are not there any more."""
    known = select(ThreadRow.id).where(ThreadRow.id.in_(thread_ids))
    return set(thread_ids).difference(tx.session.scalars(known))
