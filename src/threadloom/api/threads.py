"""Threads."""

from typing import Annotated

from fastapi import APIRouter, Body, Request
from sqlalchemy import JSON, ColumnElement, type_coerce

from threadloom.api.context import Db, Listing, Server, ThreadId, page_of
from threadloom.api.route import AssistantsRoute
from threadloom.db.rows import ThreadRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows, Shown
from threadloom.retrieval.resources import chosen_resources, with_living
from threadloom.runs.threads import create_thread as create
from threadloom.runs.threads import delete_thread as remove
from threadloom.types.shared import Deleted, Page
from threadloom.types.threads import Thread, ThreadCreate, ThreadModify

router = APIRouter(
    prefix="/v1/threads",
    tags=["Threads"],
    route_class=AssistantsRoute,
)


@router.post("")
async def create_thread(
    db: Db, server: Server, body: Annotated[ThreadCreate | None, Body()] = None
) -> Thread:
    return Thread.model_validate(
        await db.write(create, body or ThreadCreate(), tables=server.takes_tables)
    )


@router.get("", tags=["Threadloom's own"])
async def list_threads(query: Listing, request: Request, db: Db) -> Page[Thread]:
    """Threads of the project; `metadata[key]=value` keeps those that carry the pair. Not part of OpenAI's API."""
    filters = metadata_filters(request)
    return page_of(Thread, await db.read(page, query, *filters))


@router.get("/{thread_id}")
async def retrieve_thread(thread_id: ThreadId, db: Db) -> Thread:
    return Thread.model_validate(await db.read(shown, thread_id))


@router.post("/{thread_id}")
async def modify_thread(thread_id: ThreadId, body: ThreadModify, db: Db, server: Server) -> Thread:
    return Thread.model_validate(
        await db.write(modify, thread_id, body, tables=server.takes_tables)
    )


@router.delete("/{thread_id}")
async def delete_thread(thread_id: ThreadId, db: Db) -> Deleted:
    await db.write(delete, thread_id)
    return Deleted(id=thread_id, object="thread.deleted", deleted=True)


def shown(tx: ProjectTx, thread_id: str) -> Shown:
    return with_living(tx, [tx.show(ThreadRow, thread_id)])[0]


def page(tx: ProjectTx, query: PageQuery, *filters: ColumnElement[bool]) -> Rows:
    rows = tx.page(ThreadRow, query, *filters)
    return Rows(with_living(tx, rows.rows), rows.has_more)


def modify(tx: ProjectTx, thread_id: str, body: ThreadModify, *, tables: bool) -> ThreadRow:
    thread = tx.get(ThreadRow, thread_id, lock=True)
    if body.metadata is not None:
        thread.metadata_ = body.metadata
    thread.tool_resources = chosen_resources(
        tx, body.tool_resources, thread.tool_resources, tables=tables
    )
    return thread


def delete(tx: ProjectTx, thread_id: str) -> None:
    remove(tx, tx.get(ThreadRow, thread_id, lock=True))


def metadata_filters(request: Request) -> list[ColumnElement[bool]]:
    pairs = [
        (name.removeprefix("metadata[").removesuffix("]"), value)
        for name, value in request.query_params.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    ]
    metadata = type_coerce(ThreadRow.metadata_, JSON)
    return [metadata[key].as_string() == value for key, value in pairs]
