"""How a run begins, is recovered and ends. Each function is part of one transaction; `docs/runs.md` tells the story."""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, select

from threadloom.db.rows import MessageRow, RunStepRow
from threadloom.events import RunTx
from threadloom.llm.chat import FailureCode
from threadloom.runs.journal import (
    EndOfStep,
    charge,
    close_step,
    complete_message,
    cut_message,
    open_step,
    start_message,
)
from threadloom.runs.states import transition
from threadloom.runs.tool_calls import show_calls, waiting
from threadloom.runs.usage import NO_USAGE
from threadloom.types.messages import Content, IncompleteReason
from threadloom.types.run_steps import MessageCreationDetails
from threadloom.types.runs import (
    Budget,
    LastError,
    Run,
    RunIncompleteDetails,
    RunStatus,
    RunUsage,
)
from threadloom.usage import record_usage

LOST = LastError(
    code="server_error",
    message="The worker was lost while it wrote this step; it was started again.",
)
STEPS_OF_TURN = select(RunStepRow).where(
    RunStepRow.run_id == bindparam("of_run"), RunStepRow.turn == bindparam("turn")
)


def start_run(tx: RunTx) -> None:
    """A queued run is taken up."""
    transition(tx.run, "in_progress")
    tx.run.started_at = tx.now
    tx.emit("thread.run.in_progress", Run.model_validate(tx.run))


def recover_run(tx: RunTx) -> None:
    """Close what a lost worker left half-written. A turn that was complete stays as it is."""
    step = open_step(tx)
    if step is None or step.calls:
        return
    cut_message(tx, step, "run_failed")
    close_step(tx, step, "failed", LOST)
    withdraw_turn(tx, step.turn)


def withdraw_turn(tx: RunTx, turn: int) -> None:
    """The turn is written anew: the thread shall not show its text twice."""
    steps = tx.session.scalars(STEPS_OF_TURN, {"of_run": tx.run.id, "turn": turn})
    written = [
        step.step_details.message_creation.message_id
        for step in steps
        if isinstance(step.step_details, MessageCreationDetails)
    ]
    tx.session.execute(delete(MessageRow).where(MessageRow.id.in_(written)))


def end_run(tx: RunTx, status: RunStatus) -> None:
    """The run is over; nobody is due to look at it again."""
    run = tx.run
    transition(run, status)
    run.usage = run.spent
    run.due_at = None
    run.kept_since = tx.clock.now()
    if status != "expired":
        run.expires_at = None
    record_usage(tx, run)
    tx.emit(f"thread.run.{status}", Run.model_validate(run))


def complete_run(tx: RunTx, turn: int, content: Sequence[Content], usage: RunUsage) -> None:
    """The last message is written."""
    step = open_step(tx)
    if step is None:  # the model had nothing to say
        start_message(tx, turn)
        step = open_step(tx)
    with tx.session.no_autoflush:  # or the run and the step would be written twice
        charge(tx, step, usage)
        complete_message(tx, step, content)
    tx.run.completed_at = tx.now
    end_run(tx, "completed")


def filter_run(tx: RunTx, usage: RunUsage) -> None:
    """The provider stopped the answer for what it says."""
    charge(tx, open_step(tx), usage)
    message = "The answer was stopped by the provider's content filter."
    fail_run(tx, "invalid_prompt", message, "content_filter")


def fail_run(
    tx: RunTx, code: FailureCode, message: str, cut: IncompleteReason = "run_failed"
) -> None:
    """The run cannot go on."""
    error = LastError(code=code, message=message)
    tx.run.last_error = error
    tx.run.failed_at = tx.now
    # A step knows no `invalid_prompt`.
    shown = LastError(code="server_error" if code == "invalid_prompt" else code, message=message)
    close_open(tx, "failed", cut, shown)
    end_run(tx, "failed")


def cancel_run(tx: RunTx) -> None:
    """The client asked for the end."""
    tx.emit("thread.run.cancelling", Run.model_validate(tx.run))
    close_open(tx, "cancelled", "run_cancelled")
    tx.run.cancelled_at = tx.now
    end_run(tx, "cancelled")


def expire_run(tx: RunTx) -> None:
    """Time is up."""
    tx.run.required_action = None
    close_open(tx, "expired", "run_expired")
    end_run(tx, "expired")


def stop_run(tx: RunTx, budget: Budget, usage: RunUsage = NO_USAGE) -> None:
    """A token budget is spent."""
    charge(tx, open_step(tx), usage)
    tx.run.incomplete_details = RunIncompleteDetails(reason=budget)
    close_open(tx, "completed", "max_tokens")
    end_run(tx, "incomplete")


def close_open(
    tx: RunTx, status: EndOfStep, reason: IncompleteReason, error: LastError | None = None
) -> None:
    if step := open_step(tx):
        cut_message(tx, step, reason)
        show_calls(tx, step, waiting(step))
        close_step(tx, step, status, error)
