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

STEPS = select(RunStepRow).where(RunStepRow.run_id == bindparam("of_run")).order_by(RunStepRow.seq)


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
