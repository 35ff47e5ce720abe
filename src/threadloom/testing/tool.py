"""A built-in tool that does nothing but answer."""

import asyncio
from collections import deque
from typing import Literal

from threadloom.db.rows import RunRow
from threadloom.llm.chat import Function, ToolCall
from threadloom.runs.code_calls import CodeReader, code_of
from threadloom.runs.tools import ToolResult
from threadloom.types.run_steps import CodeInterpreterCall, CodeInterpreterToolCall, StepToolCall
from threadloom.types.shared import JsonObject

Outputs = list[JsonObject]
Outcome = str | Outputs | Exception | asyncio.Event


class EchoTool:
    """A code interpreter that prints its input, unless a test scripted the outcome; it keeps the calls it got."""

    name: Literal["code_interpreter"] = "code_interpreter"

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self.called = asyncio.Event()
        self._outcomes = deque[Outcome]()

    def then(self, *outcomes: Outcome) -> None:
        """What the next calls lead to: a text, outputs as a step shows them, an error, or an echo once an event is set."""
        self._outcomes.extend(outcomes)

    async def function(self, run: RunRow) -> Function:
        del run
        return Function(self.name, "Echoes.", {"type": "object", "properties": {}})

    def reader(self) -> CodeReader:
        return CodeReader()

    async def prepare(self, run: RunRow) -> None:
        pass

    def begun(self, run: RunRow, call: ToolCall) -> StepToolCall:
        del run
        return shown(call, [])

    async def run(self, run: RunRow, call: ToolCall, room: int) -> ToolResult:
        del run, room
        self.calls.append(call)
        self.called.set()
        code = code_of(call.arguments)
        outcome = self._outcomes.popleft() if self._outcomes else code
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            outcome = code
        if isinstance(outcome, str):
            outcome = [{"type": "logs", "logs": outcome}] if outcome else []
        heard = "".join(output.get("logs", "") for output in outcome)
        return ToolResult(shown(call, outcome), heard, more(outcome))


def shown(call: ToolCall, outputs: Outputs) -> StepToolCall:
    interpreter = CodeInterpreterCall(input=code_of(call.arguments), outputs=outputs)
    return CodeInterpreterToolCall(
        id=call.id, type="code_interpreter", code_interpreter=interpreter
    )


def more(outputs: Outputs) -> JsonObject | None:
    """What a stream adds to the call when it is done."""
    if not outputs:
        return None
    numbered = [{"index": index} | output for index, output in enumerate(outputs)]
    return {"type": "code_interpreter", "code_interpreter": {"outputs": numbered}}
