"""The code that ran before in a thread: what the model is told of it, and which call was the last."""

from collections.abc import Iterator

from sqlalchemy import Text, bindparam, cast, select

from threadloom.db.rows import RunRow, RunStepRow
from threadloom.db.tx import Tx
from threadloom.runs.sandbox_files import NAME
from threadloom.types.run_steps import CodeInterpreterToolCall, ToolCallsDetails

HEADING = "Code that ran before in this conversation; what it defined is there unless you hear that the sandbox was started anew:"
LONGEST = 4_000
"""Characters of all code together, about."""
RECENT_STEPS = 20
"""Among so many steps with answered calls is one that ran code, if any did."""
NO_CODE = "There was no code to run. Call the function again with `code`."
INDENT = " " * 4
"""Lines that are not indented say which files there are, and code may hold such lines."""

ANSWERED = (
    select(RunStepRow)
    .where(RunStepRow.thread_id == bindparam("of_thread"), RunStepRow.type == "tool_calls")
    .where(cast(RunStepRow.calls, Text).contains(NAME), cast(RunStepRow.heard, Text) != "{}")
    .order_by(RunStepRow.seq.desc())
    .limit(RECENT_STEPS)
)


def code_before(tx: Tx, run: RunRow) -> str:
    """The end of all that ran in the thread's other runs, oldest first; nothing when nothing did."""
    lines: list[str] = []
    room = LONGEST
    for line in lines_of(tx, run):
        room -= len(line)
        if room < 0:
            lines.append(f"{INDENT}…")
            break
        lines.append(line)
    return "\n".join((HEADING, *reversed(lines))) if lines else ""


def lines_of(tx: Tx, run: RunRow) -> Iterator[str]:
    """From the last line to the first. Calls of the run itself are in its transcript."""
    for step in tx.session.scalars(
        ANSWERED.where(RunStepRow.run_id != run.id), {"of_thread": run.thread_id}
    ):
        assert isinstance(step.step_details, ToolCallsDetails)
        for call in reversed(step.step_details.tool_calls):
            if isinstance(call, CodeInterpreterToolCall) and call.id in step.heard:
                for line in reversed(call.code_interpreter.input.strip().splitlines()):
                    yield INDENT + line


def this_and_last_call(tx: Tx, run: RunRow, call_id: str) -> tuple[str, str | None]:
    """A call of the run's newest step, and the thread's newest call that has run code, in whatever worker."""
    newest = (
        select(RunStepRow.id)
        .where(RunStepRow.run_id == run.id, RunStepRow.type == "tool_calls")
        .order_by(RunStepRow.seq.desc())
        .limit(1)
    )
    ran = (
        one_of(step.id, call.id)
        for step in tx.session.scalars(ANSWERED, {"of_thread": run.thread_id})
        for call in reversed(step.calls)
        if call.name == NAME and step.heard.get(call.id, NO_CODE) != NO_CODE
    )
    return one_of(tx.session.scalars(newest).one(), call_id), next(ran, None)


def one_of(step_id: str, call_id: str) -> str:
    """Tells a call from all others: some providers count calls anew in each turn."""
    return f"{step_id} {call_id}"
