"""Threads and the messages that clients put into them."""

from sqlalchemy import bindparam, select

from threadloom.db.insert import insert_row
from threadloom.db.rows import IS_ACTIVE, MessageRow, RunRow, ThreadRow
from threadloom.db.tx import ProjectTx
from threadloom.errors import InvalidRequest
from threadloom.retrieval.resources import (
    A_WEEK,
    Attached,
    attached,
    chosen_resources,
    with_attached,
)
from threadloom.types.messages import MessageCreate
from threadloom.types.threads import ThreadCreate

ACTIVE_RUN = select(RunRow.id).where(RunRow.thread_id == bindparam("thread_id"), IS_ACTIVE)


def create_thread(tx: ProjectTx, body: ThreadCreate, *, tables: bool) -> ThreadRow:
    """A thread with its first messages. `tables` says whether vector stores take tables."""
    files = attached(tx, body.messages or (), tables=tables)
    resources = chosen_resources(tx, body.tool_resources, tables=tables, expires_after=A_WEEK)
    thread = ThreadRow(
        id=tx.ids.new("thread_"),
        project_id=tx.project_id,
        created_at=tx.now,
        tool_resources=with_attached(tx, resources, files, tables=tables),
        metadata_=body.metadata or {},
    )
    insert_row(tx.session, thread)
    for message in body.messages or ():
        add_message(tx, thread, message)
    return thread


def use_attached(tx: ProjectTx, thread: ThreadRow, files: Attached, *, tables: bool) -> None:
    """Let the tools of a locked thread use the files of its new messages."""
    thread.tool_resources = with_attached(tx, thread.tool_resources, files, tables=tables)


def add_message(tx: ProjectTx, thread: ThreadRow, body: MessageCreate) -> MessageRow:
    """Append a client's message."""
    message = MessageRow(
        id=tx.ids.new("msg_"),
        project_id=tx.project_id,
        thread_id=thread.id,
        created_at=tx.now,
        assistant_id=None,
        run_id=None,
        status="completed",
        incomplete_details=None,
        incomplete_at=None,
        completed_at=tx.now,
        role=body.role,
        content=body.stored_content(),
        attachments=body.attachments or [],
        metadata_=body.metadata or {},
    )
    insert_row(tx.session, message)
    return message


def active_run(tx: ProjectTx, thread: ThreadRow) -> str | None:
    """The id of the run that locks the thread, if any."""
    return tx.session.scalar(ACTIVE_RUN, {"thread_id": thread.id})


def refuse_messages_while_active(tx: ProjectTx, thread: ThreadRow) -> None:
    if run_id := active_run(tx, thread):
        raise InvalidRequest(f"Can't add messages to {thread.id} while a run {run_id} is active.")


def refuse_runs_while_active(tx: ProjectTx, thread: ThreadRow) -> None:
    if run_id := active_run(tx, thread):
        raise InvalidRequest(f"Thread {thread.id} already has an active run {run_id}.")
