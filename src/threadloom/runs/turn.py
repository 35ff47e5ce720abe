"""One turn of the model, written into the run's log as it arrives."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson

from threadloom.db.rows import RunRow
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
from threadloom.runs.citations import AnswerReader, Piece
from threadloom.runs.journal import (
    PartDraft,
    PartKind,
    content_of,
    start_message,
    start_tool_step,
    step_delta,
)
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

    def __init__(
        self,
        log: RunLog,
        run: RunRow,
        turn: int,
        built_in: BuiltInTools,
        reader: AnswerReader | None,
    ) -> None:
        self._log = log
        self._run = run
        self._turn = turn
        self._built_in = built_in
        self._reader = reader
        self._parts: list[PartDraft] = []
        self._calls: dict[int, CallDraft] = {}
        self._message_id = ""
        self._step_id = ""

    async def write(self, stream: AsyncIterator[ChatEvent]) -> Turn:
        """Consume the stream. Raises ModelError as the model does."""
        async for event in stream:
            match event:
                case TextDelta(text):
                    await self._write_text(text)
                case RefusalDelta(text):
                    await self._finish_text()
                    await self._write_piece("refusal", Piece(text))
                case ToolCallOpened():
                    await self._open_call(event)
                case Finished(reason, usage):
                    await self._finish_text()
                    self._show_calls()
                    return Turn(self._content(), self._finished_calls(), reason, usage)
                case _:
                    self._write_arguments(event.index, event.arguments)
        raise AssertionError("a model's stream ends with Finished")

    def _content(self) -> list[Content]:
        return content_of(self._parts)

    def _finished_calls(self) -> list[ToolCall]:
        return [self._calls[index].finished() for index in sorted(self._calls)]

    async def _write_text(self, text: str) -> None:
        for piece in self._reader.feed(text) if self._reader else [Piece(text)]:
            await self._write_piece("text", piece)

    async def _finish_text(self) -> None:
        """What was held back because it might have become a marker."""
        for piece in self._reader.finish() if self._reader else ():
            await self._write_piece("text", piece)

    async def _write_piece(self, kind: PartKind, piece: Piece) -> None:
        # One step is open at a time, or SDKs raise: text that follows calls has no place to go.
        if self._calls or not piece.text:
            return
        if not self._message_id:
            self._message_id = await self._log.commit(start_message, self._turn)
        if first := not self._parts or self._parts[-1].kind != kind:
            self._parts.append(PartDraft(kind))
        draft = self._parts[-1]
        part = text_part(piece, draft, first=first) if kind == "text" else {"refusal": piece.text}
        draft.add(piece)
        self._log.delta(
            "thread.message.delta",
            message_delta(self._message_id, {"index": len(self._parts) - 1, "type": kind} | part),
        )

    async def _open_call(self, event: ToolCallOpened) -> None:
        await self._finish_text()
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
                call = shown_call(self._run, draft.finished(), self._built_in)
                self._write_call(index, call.model_dump(mode="json"))

    def _write_call(self, index: int, call: JsonObject) -> None:
        delta = step_delta(self._step_id, {"index": index} | call)
        self._log.delta("thread.run.step.delta", delta)


def text_part(piece: Piece, draft: PartDraft, *, first: bool) -> JsonObject:
    """Only the first delta of a part carries a list of annotations without need."""
    value: JsonObject = {"value": piece.text}
    if piece.source:
        value["annotations"] = [streamed(piece.source.annotation(draft.length), draft)]
    elif first:
        value["annotations"] = []
    return {"text": value}


def streamed(annotation: JsonObject, draft: PartDraft) -> JsonObject:
    """An annotation as deltas have it: numbered, and with the empty quote that the hosted service sent."""
    cited = annotation["file_citation"] | {"quote": ""}
    return {"index": len(draft.annotations)} | annotation | {"file_citation": cited}


def message_delta(message_id: str, part: JsonObject) -> str:
    """A piece of a message as it is sent."""
    delta = {"id": message_id, "object": "thread.message.delta", "delta": {"content": [part]}}
    return orjson.dumps(delta).decode()
