"""What a run writes down: its steps, messages and tool calls. Each function is part of one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson
from sqlalchemy import bindparam, select

from threadloom.db.insert import insert_row
from threadloom.db.rows import EventRow, MessageRow, RunStepRow
from threadloom.db.tx import Tx
from threadloom.events import RunTx
from threadloom.llm.chat import ToolCall
from threadloom.runs.citations import Piece
from threadloom.runs.states import transition
from threadloom.runs.tools import ToolResult
from threadloom.runs.usage import NO_USAGE, add_usage
from threadloom.types.messages import (
    Attachment,
    AttachmentTool,
    Content,
    ImageFile,
    ImageFileContent,
    IncompleteDetails,
    IncompleteReason,
    Message,
    RefusalContent,
    TextContent,
    TextValue,
)
from threadloom.types.run_steps import (
    CodeInterpreterToolCall,
    CreatedMessage,
    MessageCreationDetails,
    RecordedCall,
    RunStep,
    StepDetails,
    StepToolCall,
    ToolCallsDetails,
)
from threadloom.types.runs import (
    CalledFunction,
    LastError,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    Run,
    RunUsage,
)
from threadloom.types.shared import JsonObject

PartKind = Literal["text", "refusal", "image_file"]
EndOfStep = Literal["completed", "cancelled", "failed", "expired"]
OPEN_STEP = (
    select(RunStepRow)
    .where(RunStepRow.run_id == bindparam("of_run"), RunStepRow.status == "in_progress")
    .order_by(RunStepRow.seq.desc())
    .limit(1)
)
STEPS = select(RunStepRow).where(RunStepRow.run_id == bindparam("of_run")).order_by(RunStepRow.seq)
MESSAGE = select(MessageRow).where(MessageRow.id == bindparam("message_id"))
DELTAS = (
    select(EventRow.data)
    .where(EventRow.run_id == bindparam("of_run"), EventRow.name == "thread.message.delta")
    .order_by(EventRow.epoch, EventRow.seq)
)


@dataclass
class PartDraft:
    """A content part while it is written; `length` counts characters. The one piece of a picture is its File's id."""

    kind: PartKind
    pieces: list[str] = field(default_factory=list[str])
    annotations: list[JsonObject] = field(default_factory=list[JsonObject])
    length: int = 0

    def add(self, piece: Piece) -> None:
        if piece.source:
            self.annotations.append(piece.source.annotation(self.length))
        self.pieces.append(piece.text)
        self.length += len(piece.text)

    def delta(self, piece: Piece) -> JsonObject:
        """The piece as it is sent before it is added. Only the first of a text has a list of annotations without need."""
        if self.kind != "text":
            return {self.kind: {"file_id": piece.text} if self.kind == "image_file" else piece.text}
        text: JsonObject = {"value": piece.text}
        if piece.source:
            annotation = piece.source.annotation(self.length)
            text["annotations"] = [streamed_annotation(annotation, len(self.annotations))]
        elif not self.pieces:
            text["annotations"] = []
        return {"text": text}

    def add_delta(self, part: JsonObject) -> None:
        """A piece as it was sent."""
        sent = part[self.kind]
        match self.kind:
            case "text":
                self.pieces.append(sent["value"])
                self.annotations += map(stored_annotation, sent.get("annotations", ()))
            case "image_file":
                self.pieces.append(sent["file_id"])
            case _:
                self.pieces.append(sent)

    def content(self) -> Content:
        text = "".join(self.pieces)
        match self.kind:
            case "text":
                value = TextValue(value=text, annotations=list(self.annotations))
                return TextContent(type="text", text=value)
            case "image_file":
                return ImageFileContent(type="image_file", image_file=ImageFile(file_id=text))
            case _:
                return RefusalContent(type="refusal", refusal=text)


def streamed_annotation(annotation: JsonObject, index: int) -> JsonObject:
    """An annotation as deltas have it: numbered, and a citation with the empty quote that the hosted service sent."""
    sent: JsonObject = {"index": index} | annotation
    if "file_citation" in sent:
        sent["file_citation"] = sent["file_citation"] | {"quote": ""}
    return sent


def stored_annotation(sent: JsonObject) -> JsonObject:
    """An annotation of a delta as its message keeps it."""
    kept = {name: value for name, value in sent.items() if name != "index"}
    if "file_citation" in kept:
        cited = kept["file_citation"].items()
        kept["file_citation"] = {name: value for name, value in cited if name != "quote"}
    return kept


# Opening and closing steps and messages


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


def unshown_pictures(tx: Tx, run_id: str) -> list[str]:
    """Ids of the pictures that the run's code has shown since its last message. A turn that was lost showed nothing."""
    steps = tx.session.scalars(STEPS, {"of_run": run_id}).all()
    lost = {step.turn for step in steps if step.status == "failed"}
    pictures: list[str] = []
    for step in steps:
        if isinstance(step.step_details, ToolCallsDetails):
            pictures += pictures_of(step.step_details)
        elif step.turn not in lost:
            pictures.clear()
    return pictures


def pictures_of(details: ToolCallsDetails) -> Iterator[str]:
    for call in details.tool_calls:
        if isinstance(call, CodeInterpreterToolCall):
            for output in call.code_interpreter.outputs:
                if output["type"] == "image":
                    yield output["image"]["file_id"]


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


def content_of(parts: Iterable[PartDraft]) -> list[Content]:
    """Parts in the stored form."""
    return [part.content() for part in parts]


# Tool calls


def charge(tx: RunTx, step: RunStepRow | None, usage: RunUsage) -> None:
    """Add a turn's tokens to the run, and to its open step."""
    tx.run.spent = add_usage(tx.run.spent, usage)
    if step:
        step.cost = usage


def record_calls(
    tx: RunTx, calls: Sequence[tuple[ToolCall, StepToolCall]], usage: RunUsage
) -> None:
    """The model's turn is complete: from here on it is never asked for again."""
    step = open_step(tx)
    assert step is not None, "calls are written in a step"
    charge(tx, step, usage)
    step.calls = [RecordedCall(id=c.id, name=c.name, arguments=c.arguments) for c, _ in calls]
    step.step_details = ToolCallsDetails(
        type="tool_calls", tool_calls=[shown for _, shown in calls]
    )


def unanswered(tx: Tx, run_id: str) -> tuple[list[ToolCall], RunUsage] | None:
    """The open step's calls that nobody has answered yet, and what their turn used; None when no step is open."""
    step = tx.session.scalar(OPEN_STEP, {"of_run": run_id})
    if step is None:
        return None
    calls = [
        ToolCall(call.id, call.name, call.arguments)
        for call in step.calls
        if call.id not in step.heard
    ]
    return calls, step.cost or NO_USAGE


def record_result(tx: RunTx, result: ToolResult) -> None:
    """A built-in call is done."""
    if result.record:
        result.record(tx)
    step = open_step(tx)
    assert step is not None
    assert isinstance(step.step_details, ToolCallsDetails)
    calls = list(step.step_details.tool_calls)
    index = [call.id for call in calls].index(result.shown.id)
    calls[index] = result.shown
    step.step_details = ToolCallsDetails(type="tool_calls", tool_calls=calls)
    step.heard = step.heard | {result.shown.id: result.heard}
    if result.delta is not None:
        tx.append("thread.run.step.delta", step_delta(step.id, {"index": index} | result.delta))


def step_delta(step_id: str, call: JsonObject) -> str:
    """A piece of a tool call as it is sent."""
    details = {"type": "tool_calls", "tool_calls": [call]}
    delta = {
        "id": step_id,
        "object": "thread.run.step.delta",
        "delta": {"step_details": details},
    }
    return orjson.dumps(delta).decode()


def complete_tools(tx: RunTx) -> None:
    """All calls of the open step are answered."""
    step = open_step(tx)
    assert step is not None
    close_step(tx, step, "completed")


def require_action(tx: RunTx, calls: Iterable[ToolCall]) -> None:
    """Let the client answer; no worker waits meanwhile, the run is due again when it expires."""
    run = tx.run
    transition(run, "requires_action")
    run.required_action = RequiredAction(
        type="submit_tool_outputs",
        submit_tool_outputs=RequiredToolCalls(
            tool_calls=[
                RequiredToolCall(
                    id=call.id,
                    type="function",
                    function=CalledFunction(name=call.name, arguments=call.arguments),
                )
                for call in calls
            ]
        ),
    )
    run.due_at = run.expires_at
    tx.emit("thread.run.requires_action", Run.model_validate(run))
