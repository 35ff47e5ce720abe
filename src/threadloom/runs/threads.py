"""Threads and the messages that clients put into them."""

from sqlalchemy import bindparam, select

from threadloom.db.insert import insert_row
from threadloom.db.rows import IS_ACTIVE, MessageRow, RunRow, ThreadRow
from threadloom.db.tx import ProjectTx
from threadloom.errors import InvalidRequest
from threadloom.types.messages import MessageCreate
from threadloom.types.threads import ThreadCreate
from threadloom.types.tools import ToolResourcesCreate

ACTIVE_RUN = select(RunRow.id).where(RunRow.thread_id == bindparam("thread_id"), IS_ACTIVE)


def create_thread(tx: ProjectTx, body: ThreadCreate) -> ThreadRow:
    """A thread with its first messages."""
    resources = (body.tool_resources or ToolResourcesCreate()).stored()
    thread = ThreadRow(
        id=tx.ids.new("thread_"),
        project_id=tx.project_id,
        created_at=tx.now,
        tool_resources=resources,
        metadata_=body.metadata or {},
    )
    insert_row(tx.session, thread)
    for message in body.messages or ():
        add_message(tx, thread, message)
    return thread


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
