"""What clients do to runs: create, cancel, answer tool calls. One transaction each."""

from typing import TypeVar

from sqlalchemy import select

from threadloom import outbox
from threadloom.db.insert import insert_row
from threadloom.db.rows import AssistantRow, MessageRow, RunRow, RunStepRow, ThreadRow
from threadloom.db.tx import ProjectTx, Shown
from threadloom.errors import InvalidRequest
from threadloom.eventlog import Cursor
from threadloom.events import RunTx, unheld
from threadloom.retrieval.resources import attached, chosen_resources
from threadloom.runs.journal import close_step, open_step
from threadloom.runs.states import CANCELLABLE, transition
from threadloom.runs.threads import (
    add_message,
    create_thread,
    refuse_runs_while_active,
    use_attached,
)
from threadloom.runs.tools import chosen_name, name_of
from threadloom.runs.usage import NO_USAGE
from threadloom.types.run_steps import FunctionToolCall, StepToolCall, ToolCallsDetails
from threadloom.types.runs import (
    Run,
    RunCreate,
    RunOptions,
    SubmitToolOutputs,
    ThreadAndRunCreate,
    TruncationStrategy,
)
from threadloom.types.threads import Thread, ThreadCreate
from threadloom.types.tools import stored_option

T = TypeVar("T")

QUEUE = "queue"
"""The channel that wakes workers: a run is due."""
CONTROL = "control"
"""The channel that wakes workers: a run they hold was told to stop."""


def create_run(
    tx: ProjectTx,
    thread_id: str,
    body: RunCreate,
    *,
    expires_after: float,
    tables: bool,
    key_id: str | None = None,
) -> Run:
    """Queue a run on a thread. Refused while another run is active. `tables` says whether vector stores take tables, `key_id` who asks."""
    files = attached(tx, body.additional_messages or (), tables=tables)
    thread = tx.get(ThreadRow, thread_id, lock=True)
    assistant = tx.get(AssistantRow, body.assistant_id)
    refuse_runs_while_active(tx, thread)
    use_attached(tx, thread, files, tables=tables)
    for message in body.additional_messages or ():
        add_message(tx, thread, message)
    run = new_run(tx, thread, assistant, body, expires_after, key_id)
    run.additional_instructions = body.additional_instructions
    refuse_nothing_to_say(tx, run)
    insert_row(tx.session, run)
    with unheld(tx, run) as run_tx:
        return announce_queued(run_tx)


def create_thread_and_run(
    tx: ProjectTx,
    body: ThreadAndRunCreate,
    *,
    expires_after: float,
    tables: bool,
    key_id: str | None = None,
) -> Run:
    """Make a thread and queue a run on it."""
    assistant = tx.get(AssistantRow, body.assistant_id)
    thread = create_thread(tx, body.thread or ThreadCreate(), tables=tables)
    run = new_run(tx, thread, assistant, body, expires_after, key_id)
    run.tool_resources = chosen_resources(tx, body.tool_resources, tables=tables)
    refuse_nothing_to_say(tx, run)
    insert_row(tx.session, run)
    with unheld(tx, run) as run_tx:
        run_tx.emit("thread.created", Thread.model_validate(thread))
        return announce_queued(run_tx)


def announce_queued(tx: RunTx) -> Run:
    run = Run.model_validate(tx.run)
    tx.emit("thread.run.created", run)
    tx.emit("thread.run.queued", run)
    tx.wake(QUEUE)
    return run


def new_run(
    tx: ProjectTx,
    thread: ThreadRow,
    assistant: AssistantRow,
    body: RunOptions,
    expires_after: float,
    key_id: str | None,
) -> RunRow:
    """A run with its settings as they are now: later changes of the assistant do not reach it."""
    run = RunRow(
        id=tx.ids.new("run_"),
        project_id=tx.project_id,
        key_id=key_id,
        thread_id=thread.id,
        assistant_id=assistant.id,
        created_at=tx.now,
        status="queued",
        expires_at=tx.now + round(expires_after),
        model=chosen(body.model, assistant.model),
        instructions=chosen(body.instructions, assistant.instructions or ""),
        tools=chosen(body.tools, assistant.tools),
        tool_resources={},
        metadata_=body.metadata or {},
        temperature=chosen(body.temperature, assistant.temperature),
        top_p=chosen(body.top_p, assistant.top_p),
        reasoning_effort=chosen(body.reasoning_effort, assistant.reasoning_effort),
        max_completion_tokens=body.max_completion_tokens,
        max_prompt_tokens=body.max_prompt_tokens,
        truncation_strategy=chosen(body.truncation_strategy, TruncationStrategy(type="auto")),
        response_format=stored_option(body.response_format, assistant.response_format),
        tool_choice=stored_option(body.tool_choice, "auto"),
        parallel_tool_calls=chosen(body.parallel_tool_calls, otherwise=True),
        spent=NO_USAGE,
        due_at=tx.clock.now(),
    )
    refuse_missing_choice(run)
    return run


def chosen(override: T | None, otherwise: T) -> T:
    return otherwise if override is None else override


def refuse_missing_choice(run: RunRow) -> None:
    """Nobody can be made to call a tool that is not there."""
    if isinstance(run.tool_choice, str):
        return
    name = chosen_name(run.tool_choice)
    if name not in map(name_of, run.tools):
        raise InvalidRequest(
            f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice"
        )


def refuse_nothing_to_say(tx: ProjectTx, run: RunRow) -> None:
    """A model needs a user's message or instructions to go by."""
    if run.instructions or run.additional_instructions:
        return
    spoken = select(MessageRow.seq).where(
        MessageRow.thread_id == run.thread_id, MessageRow.role == "user"
    )
    if tx.session.scalar(spoken.limit(1)) is None:
        raise InvalidRequest(
            "Run creation requires a Thread with a user message or an assistant with instructions.",
            code="invalid_thread",
        )


def shown_run(tx: ProjectTx, thread_id: str, run_id: str) -> Shown:
    """A run of this thread, to be sent. Raises NotFound."""
    run = tx.show(RunRow, run_id)
    refuse_other_thread(tx, run["thread_id"], thread_id, run_id)
    return run


def locked_run(tx: ProjectTx, thread_id: str, run_id: str) -> RunRow:
    """A run of this thread, locked. Raises NotFound."""
    run = tx.get(RunRow, run_id, lock=True)
    refuse_other_thread(tx, run.thread_id, thread_id, run_id)
    return run


def refuse_other_thread(tx: ProjectTx, owner: str, thread_id: str, run_id: str) -> None:
    if owner != thread_id:
        tx.show(ThreadRow, thread_id)
        raise tx.missing(RunRow, run_id)


def ask_to_cancel(tx: ProjectTx, thread_id: str, run_id: str) -> Run:
    """Ask for a run's end. A worker closes it: the one that has it, or any when nobody does."""
    run = locked_run(tx, thread_id, run_id)
    if run.status not in CANCELLABLE:
        raise InvalidRequest(f"Cannot cancel run with status '{run.status}'.")
    held = run.status == "in_progress"
    transition(run, "cancelling")
    run.required_action = None
    if not held:
        run.due_at = tx.clock.now()
    ids = {"id": run.id, "thread_id": run.thread_id}
    outbox.announce(tx, run.project_id, "thread.run.cancelling", run.id, ids)
    tx.wake(CONTROL)
    tx.wake(QUEUE)
    return Run.model_validate(run)


def submit_tool_outputs(
    tx: ProjectTx, thread_id: str, run_id: str, body: SubmitToolOutputs
) -> tuple[Run, Cursor]:
    """Take the outputs of all pending calls and queue the run again; the cursor is where its stream begins."""
    run = locked_run(tx, thread_id, run_id)
    expired = run.expires_at is not None and tx.clock.now() >= run.expires_at
    status = "expired" if expired else run.status
    if status != "requires_action":
        raise InvalidRequest(f'Runs in status "{status}" do not accept tool outputs.')
    outputs = {one.tool_call_id or "": one.output or "" for one in body.tool_outputs}
    refuse_other_calls(run, [one.tool_call_id or "" for one in body.tool_outputs])
    run.epoch += 1
    with unheld(tx, run) as run_tx:
        step = open_step(run_tx)
        assert step is not None, "a run that requires action has an open step"
        answer_step(step, outputs)
        close_step(run_tx, step, "completed")
        transition(run, "queued")
        run.required_action = None
        run.due_at = tx.clock.now()
        sent = Run.model_validate(run)
        run_tx.emit("thread.run.queued", sent)
    tx.wake(QUEUE)
    return sent, (run.epoch, 0)


def refuse_other_calls(run: RunRow, given: list[str]) -> None:
    assert run.required_action is not None
    pending = [call.id for call in run.required_action.submit_tool_outputs.tool_calls]
    if sorted(given) != sorted(pending):
        raise InvalidRequest(f"Expected tool outputs for call_ids {pending}, got {given}")


def answer_step(step: RunStepRow, outputs: dict[str, str]) -> None:
    """Fill the outputs of function calls into their step."""
    assert isinstance(step.step_details, ToolCallsDetails)
    step.step_details = ToolCallsDetails(
        type="tool_calls",
        tool_calls=[answered(call, outputs) for call in step.step_details.tool_calls],
    )
    step.heard = step.heard | outputs


def answered(call: StepToolCall, outputs: dict[str, str]) -> StepToolCall:
    if not isinstance(call, FunctionToolCall) or call.id not in outputs:
        return call
    function = call.function.model_copy(update={"output": outputs[call.id]})
    return call.model_copy(update={"function": function})
