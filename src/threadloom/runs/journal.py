"""What a run writes down: its steps and messages. Each function is part of one transaction."""

from collections.abc import Sequence
from typing import Literal

import orjson
from sqlalchemy import bindparam, select

from threadloom.db.insert import insert_row
from threadloom.db.rows import EventRow, MessageRow, RunStepRow
from threadloom.events import RunTx
from threadloom.runs.parts import PartDraft, content_of
from threadloom.runs.usage import NO_USAGE, add_usage
from threadloom.types.messages import (
    Attachment,
    AttachmentTool,
    Content,
    IncompleteDetails,
    IncompleteReason,
    Message,
    TextContent,
)
from threadloom.types.run_steps import (
    CreatedMessage,
    MessageCreationDetails,
    RunStep,
    StepDetails,
    ToolCallsDetails,
)
from threadloom.types.runs import LastError, RunUsage

EndOfStep = Literal["completed", "cancelled", "failed", "expired"]
OPEN_STEP = (
    select(RunStepRow)
    .where(RunStepRow.run_id == bindparam("of_run"), RunStepRow.status == "in_progress")
    .order_by(RunStepRow.seq.desc())
    .limit(1)
)
MESSAGE = select(MessageRow).where(MessageRow.id == bindparam("message_id"))
DELTAS = (
    select(EventRow.data)
    .where(EventRow.run_id == bindparam("of_run"), EventRow.name == "thread.message.delta")
    .order_by(EventRow.epoch, EventRow.seq)
)


def start_step(tx: RunTx, turn: int, details: StepDetails) -> RunStepRow:
    """Open a step of the run's turn number `turn`."""
    run = tx.run
    run.turns = turn
    step = RunStepRow(
        id=tx.ids.new("step_"),
        project_id=run.project_id,
        thread_id=run.thread_id,
        run_id=run.id,
        assistant_id=run.assistant_id,
        created_at=tx.now,
        type=details.type,
        status="in_progress",
        expires_at=run.expires_at,
        step_details=details,
        metadata_={},
        turn=turn,
        calls=[],
        heard={},
    )
    insert_row(tx.session, step)
    sent = RunStep.model_validate(step)
    tx.emit("thread.run.step.created", sent)
    tx.emit("thread.run.step.in_progress", sent)
    return step


def start_message(tx: RunTx, turn: int) -> str:
    """Open a message and the step that writes it; answers with the message's id."""
    message_id = tx.ids.new("msg_")
    start_step(
        tx,
        turn,
        MessageCreationDetails(
            type="message_creation", message_creation=CreatedMessage(message_id=message_id)
        ),
    )
    message = MessageRow(
        id=message_id,
        project_id=tx.run.project_id,
        thread_id=tx.run.thread_id,
        assistant_id=tx.run.assistant_id,
        run_id=tx.run.id,
        created_at=tx.now,
        status="in_progress",
        role="assistant",
        content=[],
        attachments=[],
        metadata_={},
    )
    insert_row(tx.session, message)
    sent = Message.model_validate(message)
    tx.emit("thread.message.created", sent)
    tx.emit("thread.message.in_progress", sent)
    return message_id


def start_tool_step(tx: RunTx, turn: int, text: Sequence[Content]) -> str:
    """Open a step for the turn's tool calls, after closing the message written beside them; answers with its id."""
    if text:
        complete_message(tx, open_step(tx), text)
    return start_step(tx, turn, ToolCallsDetails(type="tool_calls", tool_calls=[])).id


def open_step(tx: RunTx) -> RunStepRow | None:
    """The step that is in progress: there is one at most."""
    return tx.session.scalar(OPEN_STEP, {"of_run": tx.run.id})


def message_of(tx: RunTx, step: RunStepRow) -> MessageRow | None:
    """The message that the step writes; None when it is a tool step."""
    if not isinstance(step.step_details, MessageCreationDetails):
        return None
    message_id = step.step_details.message_creation.message_id
    return tx.session.execute(MESSAGE, {"message_id": message_id}).scalar_one()


def complete_message(tx: RunTx, step: RunStepRow | None, content: Sequence[Content]) -> None:
    """Close the open message and its step."""
    assert step is not None, "a message is written in a step"
    message = message_of(tx, step)
    assert message is not None, "what is open is its message"
    set_content(message, content)
    message.status = "completed"
    message.completed_at = tx.now
    tx.emit("thread.message.completed", Message.model_validate(message))
    close_step(tx, step, "completed")


def close_step(
    tx: RunTx, step: RunStepRow, status: EndOfStep, error: LastError | None = None
) -> None:
    """The step is over."""
    step.status = status
    step.usage = step.cost or NO_USAGE
    step.last_error = error
    if status == "completed":
        step.completed_at = tx.now
    elif status == "cancelled":
        step.cancelled_at = tx.now
    elif status == "failed":
        step.failed_at = tx.now
    else:
        step.expired_at = tx.now
    tx.emit(f"thread.run.step.{status}", RunStep.model_validate(step))


def cut_message(tx: RunTx, step: RunStepRow, reason: IncompleteReason) -> None:
    """End the step's message where its stream stopped."""
    message = message_of(tx, step)
    if message is not None:
        set_content(message, streamed_content(tx, message.id))
        message.status = "incomplete"
        message.incomplete_at = tx.now
        message.incomplete_details = IncompleteDetails(reason=reason)
        tx.emit("thread.message.incomplete", Message.model_validate(message))


def set_content(message: MessageRow, content: Sequence[Content]) -> None:
    """What the message says; each file that it links is attached to it, as the hosted service did."""
    message.content = list(content)
    linked = [
        annotation["file_path"]["file_id"]
        for part in content
        if isinstance(part, TextContent)
        for annotation in part.text.annotations
        if annotation["type"] == "file_path"
    ]
    tools = [AttachmentTool(type="code_interpreter")]
    message.attachments = [Attachment(file_id=one, tools=tools) for one in dict.fromkeys(linked)]


def streamed_content(tx: RunTx, message_id: str) -> list[Content]:
    """The content parts that the message's deltas add up to."""
    parts: dict[int, PartDraft] = {}
    for data in tx.session.scalars(DELTAS, {"of_run": tx.run.id}):
        event = orjson.loads(data)
        if event["id"] == message_id:
            for part in event["delta"]["content"]:
                parts.setdefault(part["index"], PartDraft(part["type"])).add_delta(part)
    return content_of(parts[index] for index in sorted(parts))


def charge(tx: RunTx, step: RunStepRow | None, usage: RunUsage) -> None:
    """Add a turn's tokens to the run, and to its open step."""
    tx.run.spent = add_usage(tx.run.spent, usage)
    if step:
        step.cost = usage
