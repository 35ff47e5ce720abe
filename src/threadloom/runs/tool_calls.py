"""What a run writes down of its tool calls. Each function is part of one transaction."""

from collections.abc import Iterable, Iterator, Sequence

import orjson
from sqlalchemy import bindparam, select

from threadloom.db.rows import RunStepRow
from threadloom.db.tx import Tx
from threadloom.events import RunTx
from threadloom.llm.chat import ToolCall
from threadloom.runs.journal import OPEN_STEP, charge, close_step, open_step
from threadloom.runs.states import transition
from threadloom.runs.tools import ToolResult
from threadloom.runs.usage import NO_USAGE
from threadloom.types.run_steps import (
    CodeInterpreterToolCall,
    RecordedCall,
    StepToolCall,
    ToolCallsDetails,
)
from threadloom.types.runs import (
    CalledFunction,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    Run,
    RunUsage,
)
from threadloom.types.shared import JsonObject

WRITTEN = {"function": "arguments", "code_interpreter": "input"}
"""What streams carry of a model's own text, by the type of the call."""
STEPS = select(RunStepRow).where(RunStepRow.run_id == bindparam("of_run")).order_by(RunStepRow.seq)


def record_calls(
    tx: RunTx, calls: Sequence[tuple[ToolCall, StepToolCall]], usage: RunUsage
) -> None:
    """The model's turn is complete: from here on it is never asked for again."""
    step = open_step(tx)
    assert step is not None, "calls are written in a step"
    charge(tx, step, usage)
    tx.run.attempts = 0  # what gets further by and by is not what takes workers down
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
    tx.run.attempts = 0
    waited = waiting(step)
    calls = list(step.step_details.tool_calls)
    index = [call.id for call in calls].index(result.shown.id)
    calls[index] = result.shown
    step.step_details = ToolCallsDetails(type="tool_calls", tool_calls=calls)
    step.heard = step.heard | {result.shown.id: result.heard}
    if result.delta is not None:
        write_call(tx, step, index, result.delta)
    show_calls(tx, step, waited[: len(waited) - len(waiting(step))])


def waiting(step: RunStepRow) -> list[tuple[int, StepToolCall]]:
    """The calls that no stream has shown yet, with their places: those after code that has no outputs yet.

    SDKs take a piece of another call for the end of the one before it: each call is shown with all of its pieces.
    """
    if isinstance(step.step_details, ToolCallsDetails):
        calls = list(enumerate(step.step_details.tool_calls))
        for index, call in calls:
            if isinstance(call, CodeInterpreterToolCall) and call.id not in step.heard:
                return calls[index + 1 :]
    return []


def show_calls(tx: RunTx, step: RunStepRow, calls: Iterable[tuple[int, StepToolCall]]) -> None:
    """Stream calls that waited."""
    for index, call in calls:
        for piece in pieces_of(call):
            write_call(tx, step, index, piece)


def pieces_of(call: StepToolCall) -> list[JsonObject]:
    """The call, and then what the model wrote in it: SDKs tell nobody of what the first piece brings."""
    whole = call.model_dump(mode="json")
    name = WRITTEN.get(call.type)
    if name is None or not (written := whole[call.type][name]):
        return [whole]
    begun = whole | {call.type: whole[call.type] | {name: ""}}
    return [begun, {"type": call.type, call.type: {name: written}}]


def write_call(tx: RunTx, step: RunStepRow, index: int, piece: JsonObject) -> None:
    tx.append("thread.run.step.delta", step_delta(step.id, {"index": index} | piece))


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
