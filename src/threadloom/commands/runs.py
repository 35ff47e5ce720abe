"""`threadloom runs`."""

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement

from threadloom.api.context import page_of
from threadloom.commands.projects import Scope, opened
from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import RunRow, RunStepRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.errors import StartError
from threadloom.eventlog import START, Event, RunDeleted
from threadloom.events import Feed
from threadloom.runs import actions
from threadloom.types.run_steps import RunStep
from threadloom.types.runs import Run, RunStatus
from threadloom.types.shared import Page

ENDED = frozenset[RunStatus]({"completed", "incomplete", "failed", "cancelled", "expired"})
LOOK_EVERY = 1.0
"""Seconds between two looks at a run that waits for its client."""
ALL_STEPS = 10_000


class RunWithSteps(Run):
    """A run with its steps, oldest first."""

    steps: Sequence[RunStep]


async def page(
    scope: Scope, query: PageQuery, *, thread_id: str | None, statuses: Sequence[str]
) -> Page[Run]:
    async with opened(scope) as database:
        return page_of(Run, await database.read(page_runs, query, thread_id, statuses))


async def show(scope: Scope, run_id: str) -> RunWithSteps:
    async with opened(scope) as database:
        return await database.read(with_steps, run_id)


async def watch(scope: Scope, run_id: str, tell: Callable[[Event], None]) -> Run:
    """Tell of every event from the run's beginning to its end, whichever process writes them; answers with the run as it ended."""
    async with opened(scope) as database:
        feed, cursor = Feed(database.database), START
        try:
            while True:
                run = await look(database, run_id)
                async for events in feed.follow(run_id, cursor):
                    for event in events:
                        tell(event)
                    cursor = events[-1][:2]
                if (
                    run.status in ENDED
                ):  # before the last look at its events, so that none is missed
                    return run
                if run.status == "requires_action":
                    await asyncio.sleep(LOOK_EVERY)
        except RunDeleted:
            raise StartError("The run was deleted.") from None


async def cancel(scope: Scope, run_id: str) -> Run:
    async with opened(scope) as database:
        return await database.write(cancel_run, run_id)


async def look(database: ProjectDatabase, run_id: str) -> Run:
    return Run.model_validate(await database.read(ProjectTx.show, RunRow, run_id))


def page_runs(
    tx: ProjectTx, query: PageQuery, thread_id: str | None, statuses: Sequence[str]
) -> Rows:
    conditions: list[ColumnElement[bool]] = [RunRow.status.in_(statuses)] if statuses else []
    parent = {} if thread_id is None else {"thread_id": thread_id}
    return tx.page(RunRow, query, *conditions, **parent)


def with_steps(tx: ProjectTx, run_id: str) -> RunWithSteps:
    run = tx.show(RunRow, run_id)
    steps = tx.page(RunStepRow, PageQuery(ALL_STEPS, "asc"), run_id=run_id)
    found = [RunStep.model_validate(step) for step in steps.rows]
    return RunWithSteps.model_validate(run | {"steps": found})


def cancel_run(tx: ProjectTx, run_id: str) -> Run:
    thread_id: str = tx.show(RunRow, run_id)["thread_id"]
    return actions.ask_to_cancel(tx, thread_id, run_id)
