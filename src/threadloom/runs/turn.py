"""One turn of the model, written into the run's log as it arrives."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import orjson

from threadloom import faults
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
from threadloom.runs.journal import start_message, start_tool_step
from threadloom.runs.links import Link
from threadloom.runs.parts import PartDraft, PartKind, content_of
from threadloom.runs.sandbox_files import publish_file
from threadloom.runs.tool_calls import step_delta
from threadloom.runs.tools import BuiltInTools, CallReader, meant, reader_of, shown_call
from threadloom.types.messages import Content
from threadloom.types.run_steps import CodeInterpreterToolCall
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
    """A call while the model writes it, at its place in the step; one without a reader is shown once it is whole."""

    index: int
    id: str
    name: str
    reader: CallReader | None
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
        pictures: Sequence[str] = (),
    ) -> None:
        """`pictures` are Files that a message of this turn begins with."""
        self._log = log
        self._run = run
        self._turn = turn
        self._built_in = built_in
        self._reader = reader
        self._pictures = pictures
        self._parts: list[PartDraft] = []
        self._calls: dict[int, CallDraft] = {}
        """By the model's own numbers, in the order in which it began them."""
        self._code_shown = False
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
                    if self._pictures and not self._calls:
                        await self._start_message()
                    self._finish_calls()
                    return Turn(self._content(), self._called(), reason, usage)
                case _:
                    self._write_arguments(event.index, event.arguments)
        raise AssertionError("a model's stream ends with Finished")

    def _content(self) -> list[Content]:
        return content_of(self._parts)

    def _called(self) -> list[ToolCall]:
        return [draft.finished() for draft in self._calls.values()]

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
        await self._start_message()
        if isinstance(piece.source, Link):
            await self._log.commit(publish_file, piece.source.file_id)
        self._add(kind, piece)

    async def _start_message(self) -> None:
        """Pictures come first."""
        if self._message_id:
            return
        self._message_id = await self._log.commit(start_message, self._turn)
        for file_id in self._pictures:
            self._parts.append(PartDraft("image_file"))
            self._add("image_file", Piece(file_id))

    def _add(self, kind: PartKind, piece: Piece) -> None:
        if not self._parts or self._parts[-1].kind != kind:
            self._parts.append(PartDraft(kind))
        draft = self._parts[-1]
        part = {"index": len(self._parts) - 1, "type": kind} | draft.delta(piece)
        draft.add(piece)
        self._log.delta("thread.message.delta", message_delta(self._message_id, part))
        faults.point("run.delta")

    async def _open_call(self, event: ToolCallOpened) -> None:
        await self._finish_text()
        if not self._step_id:
            self._step_id = await self._log.commit(start_tool_step, self._turn, self._content())
        self._show_calls()
        name = meant(self._run, event.name, self._built_in)
        reader = reader_of(self._run, name, self._built_in)
        draft = CallDraft(len(self._calls), event.id, name, reader)
        self._calls[event.index] = draft
        if draft.reader:
            self._show_calls()

    def _write_arguments(self, index: int, arguments: str) -> None:
        draft = self._calls[index]
        draft.arguments.append(arguments)
        if draft.shown and draft.reader and (more := draft.reader.feed(arguments)):
            self._write_call(draft, more)

    def _finish_calls(self) -> None:
        self._show_calls()
        for draft in self._calls.values():
            if draft.shown and draft.reader and (rest := draft.reader.finish()):
                self._write_call(draft, rest)

    def _show_calls(self) -> None:
        """A call is shown when it begins, or once it is whole, in its tool's own form; what follows code waits for its outputs."""
        for draft in self._calls.values():
            if not draft.shown and not self._code_shown:
                draft.shown = True
                call = shown_call(self._run, draft.finished(), self._built_in)
                self._write_call(draft, call.model_dump(mode="json"))
                self._code_shown = isinstance(call, CodeInterpreterToolCall)

    def _write_call(self, draft: CallDraft, call: JsonObject) -> None:
        delta = step_delta(self._step_id, {"index": draft.index} | call)
        self._log.delta("thread.run.step.delta", delta)


def message_delta(message_id: str, part: JsonObject) -> str:
    """A piece of a message as it is sent."""
    delta = {"id": message_id, "object": "thread.message.delta", "delta": {"content": [part]}}
    return orjson.dumps(delta).decode()
