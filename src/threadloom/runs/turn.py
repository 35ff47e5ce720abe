"""One turn of the model, written into the run's log as it arrives."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson

from threadloom.events import RunLog
from threadloom.llm.chat import (
    ChatEvent,
    Finished,
    FinishReason,
    RefusalDelta,
    TextDelta,
    ToolCall,
    ToolCallOpened,
    Usage,
)
from threadloom.runs.journal import content_of, start_message, start_tool_step, step_delta
from threadloom.runs.tools import BuiltInTools, shown_call
from threadloom.types.messages import Content
from threadloom.types.shared import JsonObject


@dataclass(frozen=True)
class Turn:
    """A finished turn: the parts of its text, and its calls."""

    content: list[Content]
    calls: list[ToolCall]
    reason: FinishReason
    usage: Usage | None


@dataclass
class CallDraft:
    """A call while the model writes it."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])
    shown: bool = False

    def finished(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.arguments))


class TurnWriter:
    """Turns what a model streams into steps, messages and deltas."""

    def __init__(self, log: RunLog, turn: int, built_in: BuiltInTools) -> None:
        self._log = log
        self._turn = turn
        self._built_in = built_in
        self._parts: list[tuple[str, list[str]]] = []
        self._calls: dict[int, CallDraft] = {}
        self._message_id = ""
        self._step_id = ""

    async def write(self, stream: AsyncIterator[ChatEvent]) -> Turn:
        """Consume the stream. Raises ModelError as the model does."""
        async for event in stream:
            match event:
                case TextDelta(text):
                    await self._write_text("text", text)
                case RefusalDelta(text):
                    await self._write_text("refusal", text)
                case ToolCallOpened():
                    await self._open_call(event)
                case Finished(reason, usage):
                    self._show_calls()
                    return Turn(self._content(), self._finished_calls(), reason, usage)
                case _:
                    self._write_arguments(event.index, event.arguments)
        raise AssertionError("a model's stream ends with Finished")

    def _content(self) -> list[Content]:
        return content_of((kind, "".join(pieces)) for kind, pieces in self._parts)

    def _finished_calls(self) -> list[ToolCall]:
        return [self._calls[index].finished() for index in sorted(self._calls)]

    async def _write_text(self, kind: str, text: str) -> None:
        # One step is open at a time, or SDKs raise: text that follows calls has no place to go.
        if self._calls or not text:
            return
        if not self._message_id:
            self._message_id = await self._log.commit(start_message, self._turn)
        if first := not self._parts or self._parts[-1][0] != kind:
            self._parts.append((kind, []))
        self._parts[-1][1].append(text)
        part = text_part(text, first=first) if kind == "text" else {"refusal": text}
        self._log.delta(
            "thread.message.delta",
            message_delta(self._message_id, {"index": len(self._parts) - 1, "type": kind} | part),
        )

    async def _open_call(self, event: ToolCallOpened) -> None:
        if not self._step_id:
            self._step_id = await self._log.commit(start_tool_step, self._turn, self._content())
        self._show_calls()
        self._calls[event.index] = CallDraft(event.id, event.name)
        if event.name not in self._built_in:
            self._show_calls()

    def _write_arguments(self, index: int, arguments: str) -> None:
        draft = self._calls[index]
        draft.arguments.append(arguments)
        if draft.name not in self._built_in and arguments:
            self._write_call(index, {"type": "function", "function": {"arguments": arguments}})

    def _show_calls(self) -> None:
        """A call of a function is shown when it begins; one of ours once it is whole, in its tool's own form."""
        for index, draft in self._calls.items():
            if not draft.shown:
                draft.shown = True
                call = shown_call(draft.finished(), self._built_in)
                self._write_call(index, call.model_dump(mode="json"))

    def _write_call(self, index: int, call: JsonObject) -> None:
        delta = step_delta(self._step_id, {"index": index} | call)
        self._log.delta("thread.run.step.delta", delta)


def text_part(text: str, *, first: bool) -> JsonObject:
    """Only the first delta of a part carries the empty list of annotations."""
    value: JsonObject = {"value": text}
    return {"text": value | {"annotations": []} if first else value}


def message_delta(message_id: str, part: JsonObject) -> str:
    """A piece of a message as it is sent."""
    delta = {"id": message_id, "object": "thread.message.delta", "delta": {"content": [part]}}
    return orjson.dumps(delta).decode()
