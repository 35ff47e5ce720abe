"""Workers that come and go, and processes that are lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from threadloom.api.assistants import create
from threadloom.api.keys import ensure_project
from threadloom.background import Background
from threadloom.clock import Clock
from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.eventlog import START, events_after
from threadloom.events import Feed
from threadloom.ids import Ids, RandomIds
from threadloom.leases import Claim, claim
from threadloom.llm.chat import Models
from threadloom.runs.actions import create_thread_and_run
from threadloom.runs.tools import BuiltInTools
from threadloom.testing import FrozenClock
from threadloom.types.assistants import AssistantCreate
from threadloom.types.runs import ThreadAndRunCreate
from threadloom.types.tools import Tool
from threadloom.worker import Worker

AnyTx = TypeVar("AnyTx", bound=Tx)
R = TypeVar("R")


class Lost(SQLAlchemyError):
    """The process is gone."""


class DyingDatabase(Database):
    """The database as a process sees it that is lost at one of its commits.

    `reached` tells whether that last commit came through. Nothing after it does: no clean-up either.
    """

    def __init__(self, url: str, *, clock: Clock, ids: Ids, at: int, reached: bool) -> None:
        super().__init__(url, clock=clock, ids=ids)
        self.lost = asyncio.Event()
        self._left = at
        self._reached = reached

    @property
    def came_to_its_end(self) -> bool:
        """Whether the last commit was begun: what it wrote can be seen before `lost` is set."""
        return self._left <= 0

    async def run_write(self, begin: Callable[[Session], AnyTx], action: Callable[[AnyTx], R]) -> R:
        self._left -= 1
        if self._left > 0:
            return await super().run_write(begin, action)
        if self._left == 0 and self._reached:
            await super().run_write(begin, action)
        self.lost.set()
        raise Lost


@asynccontextmanager
async def doomed(
    database: Database,
    models: Models,
    built_in: BuiltInTools,
    *,
    feed: Feed | None = None,
    settings: Runs | None = None,
) -> AsyncGenerator[Worker]:
    """A worker that is killed when the block ends: it hands nothing back."""
    worker = Worker(database, feed or Feed(database), models, settings or Runs(), built_in)
    working = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        working.cancel()
        await asyncio.wait([working])


@asynccontextmanager
async def started(worker: Worker | Background) -> AsyncGenerator[None]:
    """A worker that is drained when the block ends."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        try:
            yield
        finally:
            worker.drain()


async def until_stored(database: Database, run_id: str, name: str) -> None:
    """Deltas are stored a moment after they were sent."""
    while name not in {event.name for event in await database.read(events_after, run_id, START)}:
        pass


@asynccontextmanager
async def opened(
    url: str, clock: Clock | None = None, ids: Ids | None = None
) -> AsyncGenerator[Database]:
    """A database as one more process opens it."""
    database = Database(url, clock=clock or FrozenClock(), ids=ids or RandomIds())
    try:
        yield database
    finally:
        await database.close()


async def queue_runs(
    database: Database, count: int = 1, *, tools: Sequence[Tool] = ()
) -> list[str]:
    """Ids of new runs, each on a thread of its own, in the order they are due."""
    project = database.project(await database.write(ensure_project))
    assistant = await project.write(
        create,
        AssistantCreate(model="gpt-4o", instructions="Talk.", tools=list(tools)),
        tables=False,
    )
    body = ThreadAndRunCreate(assistant_id=assistant.id)
    runs = [
        await project.write(create_thread_and_run, body, expires_after=600, tables=False)
        for _ in range(count)
    ]
    return [run.id for run in runs]


async def claimed(database: Database, lease: float = 15.0) -> Claim:
    (one,) = await database.write(claim, RunRow, lease=lease, limit=1)
    return one


async def eventually(condition: Callable[[], object]) -> None:
    """What another thread brings about cannot be awaited."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
