"""Threads and the messages that clients put into them."""

from sqlalchemy import bindparam, delete, insert, select

from threadloom.db.insert import insert_row
from threadloom.db.rows import IS_ACTIVE, EventRow, MessageRow, RunRow, ThreadRow, TombstoneRow
from threadloom.db.tx import ProjectTx, Tx
from threadloom.errors import InvalidRequest
from threadloom.eventlog import forget_events
from threadloom.files.kept import forget_thread
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


def delete_thread(tx: Tx, thread: ThreadRow) -> None:
    """Messages, runs and steps go with their locked thread, and so do the events of its runs and what its code left behind."""
    runs = select(RunRow.id).where(RunRow.thread_id == thread.id)
    # A worker locks its run before it touches the thread: in any other order the two would wait for each other.
    for run_id in tx.session.scalars(runs.where(IS_ACTIVE).with_for_update()):
        tx.wake(run_id)
    tx.session.execute(delete(EventRow).where(EventRow.run_id.in_(runs)))
    remember_runs(tx, thread.id)
    forget_thread(tx, thread.id)
    tx.delete(thread)


def remember_runs(tx: Tx, thread_id: str) -> None:
    """Where they stood: there are lists of all threads' runs."""
    runs = select(RunRow.id, RunRow.project_id, RunRow.seq).where(RunRow.thread_id == thread_id)
    ids = runs.with_only_columns(RunRow.id)
    tx.session.execute(delete(TombstoneRow).where(TombstoneRow.id.in_(ids)))
    tx.session.execute(insert(TombstoneRow).from_select(["id", "project_id", "seq"], runs))


def delete_message(tx: Tx, message: MessageRow) -> None:
    """Forget a message, and the events that told of it once its run has ended. Refused while a run writes it, whose stream has to close it."""
    if message.status == "in_progress":
        raise InvalidRequest(f"Can't delete {message.id} while run {message.run_id} writes it.")
    ended = select(RunRow.id).where(RunRow.id == message.run_id, RunRow.kept_since.is_not(None))
    forget_events(tx, tx.session.scalars(ended).all())
    tx.delete(message)


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
