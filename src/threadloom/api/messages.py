"""Messages of a thread."""

from fastapi import APIRouter
from sqlalchemy import ColumnElement

from threadloom.api.context import Db, Listing, MessageId, Server, ThreadId, page_of
from threadloom.api.route import AssistantsRoute
from threadloom.db.rows import MessageRow, ThreadRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.retrieval.resources import attached
from threadloom.runs.threads import add_message, refuse_messages_while_active, use_attached
from threadloom.runs.threads import delete_message as remove
from threadloom.types.messages import Message, MessageCreate, MessageModify
from threadloom.types.shared import Deleted, Page

router = APIRouter(
    prefix="/v1/threads/{thread_id}/messages",
    tags=["Messages"],
    route_class=AssistantsRoute,
)


@router.post("")
async def create_message(
    thread_id: ThreadId, body: MessageCreate, db: Db, server: Server
) -> Message:
    return Message.model_validate(
        await db.write(create, thread_id, body, tables=server.takes_tables)
    )


@router.get("")
async def list_messages(
    thread_id: ThreadId, query: Listing, db: Db, run_id: str | None = None
) -> Page[Message]:
    return page_of(Message, await db.read(page, thread_id, query, run_id))


@router.get("/{message_id}")
async def retrieve_message(thread_id: ThreadId, message_id: MessageId, db: Db) -> Message:
    return Message.model_validate(
        await db.read(ProjectTx.show, MessageRow, message_id, thread_id=thread_id)
    )


@router.post("/{message_id}")
async def modify_message(
    thread_id: ThreadId, message_id: MessageId, body: MessageModify, db: Db
) -> Message:
    return Message.model_validate(await db.write(modify, thread_id, message_id, body))


@router.delete("/{message_id}")
async def delete_message(thread_id: ThreadId, message_id: MessageId, db: Db) -> Deleted:
    await db.write(delete, thread_id, message_id)
    return Deleted(id=message_id, object="thread.message.deleted", deleted=True)


def create(tx: ProjectTx, thread_id: str, body: MessageCreate, *, tables: bool) -> MessageRow:
    """Append a message; refused while a run is active."""
    files = attached(tx, [body], tables=tables)
    thread = tx.get(ThreadRow, thread_id, lock=True)
    refuse_messages_while_active(tx, thread)
    use_attached(tx, thread, files, tables=tables)
    return add_message(tx, thread, body)


def page(tx: ProjectTx, thread_id: str, query: PageQuery, run_id: str | None) -> Rows:
    conditions: list[ColumnElement[bool]] = [MessageRow.run_id == run_id] if run_id else []
    rows = tx.page(MessageRow, query, *conditions, thread_id=thread_id)
    if not rows.rows:
        tx.get(ThreadRow, thread_id)  # nothing to show: because there is no such thread?
    return rows


def held(tx: ProjectTx, thread_id: str, message_id: str) -> MessageRow:
    """A message of this thread, locked. Raises NotFound."""
    message = tx.get(MessageRow, message_id, lock=True)
    if message.thread_id != thread_id:
        raise tx.missing(MessageRow, message_id)
    return message


def modify(tx: ProjectTx, thread_id: str, message_id: str, body: MessageModify) -> MessageRow:
    message = held(tx, thread_id, message_id)
    if body.metadata is not None:
        message.metadata_ = body.metadata
    return message


def delete(tx: ProjectTx, thread_id: str, message_id: str) -> None:
    remove(tx, held(tx, thread_id, message_id))
