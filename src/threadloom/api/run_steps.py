"""Steps of a run."""

from fastapi import APIRouter

from threadloom.api.context import Db, Listing, RunId, StepId, ThreadId, page_of
from threadloom.api.included import Included, shown_step
from threadloom.api.route import AssistantsRoute
from threadloom.db.rows import RunStepRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown
from threadloom.runs.actions import shown_run
from threadloom.types.run_steps import RunStep
from threadloom.types.shared import Page

router = APIRouter(
    prefix="/v1/threads/{thread_id}/runs/{run_id}/steps",
    tags=["Run steps"],
    route_class=AssistantsRoute,
)


@router.get("")
async def list_run_steps(
    thread_id: ThreadId, run_id: RunId, query: Listing, db: Db, included: Included
) -> Page[RunStep]:
    rows = await db.read(page, thread_id, run_id, query)
    rows.rows = [shown_step(row, included) for row in rows.rows]
    return page_of(RunStep, rows)


@router.get("/{step_id}")
async def retrieve_run_step(
    thread_id: ThreadId, run_id: RunId, step_id: StepId, db: Db, included: Included
) -> RunStep:
    step = await db.read(show, thread_id, run_id, step_id)
    return RunStep.model_validate(shown_step(step, included))


def page(tx: ProjectTx, thread_id: str, run_id: str, query: PageQuery) -> Rows:
    shown_run(tx, thread_id, run_id)
    return tx.page(RunStepRow, query, run_id=run_id)


def show(tx: ProjectTx, thread_id: str, run_id: str, step_id: str) -> Shown:
    """A step of this run. Raises NotFound."""
    shown_run(tx, thread_id, run_id)
    return tx.show(RunStepRow, step_id, run_id=run_id)
