"""A built-in tool that does nothing but answer."""

import asyncio
from collections import deque
from typing import Literal

from threadloom.db.rows import RunRow
from threadloom.llm.chat import Function, ToolCall
from threadloom.runs.tools import ToolResult
from threadloom.types.run_steps import CodeInterpreterCall, CodeInterpreterToolCall, StepToolCall
from threadloom.types.shared import JsonObject

Outcome = str | Exception | asyncio.Event


class EchoTool:
    """A code interpreter that prints its input, unless a test scripted the outcome; it keeps the calls it got."""

    name: Literal["code_interpreter"] = "code_interpreter"

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self.called = asyncio.Event()
        self._outcomes = deque[Outcome]()

    def then(self, *outcomes: Outcome) -> None:
        """What the next calls lead to: a text, an error, or an echo once an `asyncio.Event` is set."""
        self._outcomes.extend(outcomes)

    def function(self, run: RunRow) -> Function:
        del run
        return Function(self.name, "Echoes.", {"type": "object", "properties": {}})

    async def prepare(self, run: RunRow) -> None:
        pass

    def begun(self, run: RunRow, call: ToolCall) -> StepToolCall:
        del run
        return shown(call, [])

    async def run(self, run: RunRow, call: ToolCall, room: int) -> ToolResult:
        del run, room
        self.calls.append(call)
        self.called.set()
        outcome = self._outcomes.popleft() if self._outcomes else call.arguments
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            outcome = call.arguments
        if not outcome:
            return ToolResult(shown(call, []), outcome)
        logs = {"type": "logs", "logs": outcome}
        delta = {"type": self.name, self.name: {"outputs": [{"index": 0} | logs]}}
        return ToolResult(shown(call, [logs]), outcome, delta)


def shown(call: ToolCall, outputs: list[JsonObject]) -> StepToolCall:
    interpreter = CodeInterpreterCall(input=call.arguments, outputs=outputs)
    return CodeInterpreterToolCall(
        id=call.id, type="code_interpreter", code_interpreter=interpreter
    )
