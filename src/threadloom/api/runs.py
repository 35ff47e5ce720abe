"""Runs and their streams."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import ColumnElement

from threadloom.api.context import Db, Listing, RunId, Server, ThreadId, page_of
from threadloom.api.included import Included
from threadloom.api.route import AssistantsRoute
from threadloom.api.streams import cursor_of, stream_run
from threadloom.db.rows import RunRow, ThreadRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.runs import actions
from threadloom.runs.actions import locked_run, shown_run
from threadloom.types.runs import (
    Run,
    RunCreate,
    RunModify,
    RunStatus,
    SubmitToolOutputs,
    ThreadAndRunCreate,
)
from threadloom.types.shared import Page

router = APIRouter(prefix="/v1", tags=["Runs"], route_class=AssistantsRoute)
SOON = frozenset[RunStatus]({"queued", "in_progress", "cancelling"})


async def key_id(request: Request) -> str | None:
    """Whose tokens a run spends."""
    return request.scope["key_id"]


KeyId = Annotated[str | None, Depends(key_id)]
log = structlog.get_logger()
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.post("/threads/runs", response_model=Run, responses=STREAM)
async def create_thread_and_run(
    body: ThreadAndRunCreate, db: Db, server: Server, included: Included, key_id: KeyId
) -> Run | Response:
    run = await db.write(
        actions.create_thread_and_run,
        body,
        expires_after=server.settings.runs.expires_after,
        tables=server.takes_tables,
        key_id=key_id,
    )
    log.info("run queued", run_id=run.id)  # beside the request's own id
    return stream_run(server.feed, run.id, included) if body.stream else run


@router.post("/threads/{thread_id}/runs", response_model=Run, responses=STREAM)
async def create_run(
    thread_id: ThreadId,
    body: RunCreate,
    db: Db,
    server: Server,
    included: Included,
    key_id: KeyId,
) -> Run | Response:
    run = await db.write(
        actions.create_run,
        thread_id,
        body,
        expires_after=server.settings.runs.expires_after,
        tables=server.takes_tables,
        key_id=key_id,
    )
    log.info("run queued", run_id=run.id)  # beside the request's own id
    return stream_run(server.feed, run.id, included) if body.stream else run


@router.get("/threads/{thread_id}/runs")
async def list_runs(thread_id: ThreadId, query: Listing, db: Db) -> Page[Run]:
    return page_of(Run, await db.read(page_of_thread, thread_id, query))


@router.get("/threads/{thread_id}/runs/{run_id}")
async def retrieve_run(
    thread_id: ThreadId, run_id: RunId, db: Db, server: Server, response: Response
) -> Run:
    run = Run.model_validate(await db.read(shown_run, thread_id, run_id))
    if run.status in SOON:
        poll_after = server.settings.server.poll_after
        response.headers["openai-poll-after-ms"] = str(round(poll_after * 1000))
    return run


@router.post("/threads/{thread_id}/runs/{run_id}")
async def modify_run(thread_id: ThreadId, run_id: RunId, body: RunModify, db: Db) -> Run:
    return Run.model_validate(await db.write(modify, thread_id, run_id, body))


@router.post("/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel_run(thread_id: ThreadId, run_id: RunId, db: Db) -> Run:
    return await db.write(actions.ask_to_cancel, thread_id, run_id)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", response_model=Run, responses=STREAM
)
async def submit_tool_outputs(
    thread_id: ThreadId,
    run_id: RunId,
    body: SubmitToolOutputs,
    db: Db,
    server: Server,
    included: Included,
) -> Run | Response:
    run, cursor = await db.write(actions.submit_tool_outputs, thread_id, run_id, body)
    return stream_run(server.feed, run.id, included, cursor) if body.stream else run


@router.get(
    "/threads/{thread_id}/runs/{run_id}/events",
    tags=["Threadloom's own"],
    response_class=Response,
    responses=STREAM,
)
async def follow_run(
    thread_id: ThreadId,
    run_id: RunId,
    db: Db,
    server: Server,
    included: Included,
    after: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A run's events from its beginning, or from where a client stopped. Not part of OpenAI's API."""
    cursor = cursor_of(after or last_event_id)
    await db.read(shown_run, thread_id, run_id)
    return stream_run(server.feed, run_id, included, cursor)


@router.get("/runs", tags=["Threadloom's own"])
async def list_all_runs(
    query: Listing, db: Db, status: Annotated[list[RunStatus] | None, Query()] = None
) -> Page[Run]:
    """Runs of all threads, also by status. Not part of OpenAI's API."""
    conditions: list[ColumnElement[bool]] = [RunRow.status.in_(status)] if status else []
    return page_of(Run, await db.read(ProjectTx.page, RunRow, query, *conditions))


def page_of_thread(tx: ProjectTx, thread_id: str, query: PageQuery) -> Rows:
    rows = tx.page(RunRow, query, thread_id=thread_id)
    if not rows.rows:
        tx.show(ThreadRow, thread_id)
    return rows


def modify(tx: ProjectTx, thread_id: str, run_id: str, body: RunModify) -> RunRow:
    run = locked_run(tx, thread_id, run_id)
    if body.metadata is not None:
        run.metadata_ = body.metadata
    return run
