"""What the model is told of the code that ran in earlier runs of its thread: their calls are not in its transcript."""

from collections.abc import Iterator

from sqlalchemy import Text, cast, select

from threadloom.db.rows import RunRow, RunStepRow
from threadloom.db.tx import Tx
from threadloom.runs.sandbox_files import NAME
from threadloom.types.run_steps import CodeInterpreterToolCall, ToolCallsDetails

HEADING = "Code that ran before in this conversation; what it defined is there unless you hear that the sandbox was started anew:"
LONGEST = 4_000
"""Characters of all code together, about."""
RECENT_STEPS = 20
INDENT = " " * 4
"""Lines that are not indented say which files there are, and code may hold such lines."""


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
    """From the last line to the first."""
    steps = (
        select(RunStepRow.step_details, RunStepRow.heard)
        .where(RunStepRow.thread_id == run.thread_id, RunStepRow.type == "tool_calls")
        .where(RunStepRow.run_id != run.id, cast(RunStepRow.heard, Text) != "{}")
        .where(cast(RunStepRow.calls, Text).contains(NAME))
        .order_by(RunStepRow.seq.desc())
        .limit(RECENT_STEPS)
    )
    for details, heard in tx.session.execute(steps):
        assert isinstance(details, ToolCallsDetails)
        for call in reversed(details.tool_calls):
            if isinstance(call, CodeInterpreterToolCall) and call.id in heard:
                for line in reversed(call.code_interpreter.input.strip().splitlines()):
                    yield INDENT + line
