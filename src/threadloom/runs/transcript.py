"""What the model is shown: instructions, as much of the thread as fits, and this run's own turns.

The thread is read from its newest message backwards and only as far as needed, so that a long thread costs no more than
the part of it that is sent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import bindparam, select

from threadloom.db.database import Database
from threadloom.db.rows import MessageRow, RunRow, RunStepRow
from threadloom.db.tx import Tx
from threadloom.llm.chat import (
    AssistantMessage,
    ChatMessage,
    ImagePart,
    Part,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from threadloom.runs.code_calls import KEY, code_of
from threadloom.tokens import Tokens, upper_bound
from threadloom.types.messages import (
    Content,
    ImageFileContent,
    ImageUrlContent,
    TextContent,
    text_content,
)
from threadloom.types.run_steps import MessageCreationDetails, RecordedCall

PAGE = 64
MESSAGE_OVERHEAD = 4
"""Tokens that each message costs beside its text."""
IMAGE_TOKENS = 1_105
"""What a large picture costs at `detail: high`, which `auto` may turn out to be."""
LOW_IMAGE_TOKENS = 85
"""What any picture costs at `detail: low`."""


@dataclass(frozen=True)
class StoredImage(ImagePart):
    """A picture that is a File: it has no address until its bytes are read (`pictures.py`)."""

    file_id: str = ""


@dataclass(frozen=True)
class Place:
    """A message and where it stands in its thread."""

    seq: int
    message: ChatMessage


@dataclass(frozen=True)
class Transcript:
    """The messages to send; `cut` when not even the newest one fits."""

    messages: tuple[ChatMessage, ...]
    cut: bool


HISTORY = (
    select(MessageRow.seq, MessageRow.role, MessageRow.content)
    .where(MessageRow.thread_id == bindparam("thread_id"))
    .where(MessageRow.run_id.is_distinct_from(bindparam("of_run")))
)
NEWEST = (
    HISTORY.where(MessageRow.seq < bindparam("before"))
    .order_by(MessageRow.seq.desc())
    .limit(bindparam("limit"))
)
FIRST = HISTORY.order_by(MessageRow.seq).limit(1)
STEPS = select(RunStepRow).where(RunStepRow.run_id == bindparam("of_run")).order_by(RunStepRow.seq)
WRITTEN = select(MessageRow.id, MessageRow.content).where(MessageRow.run_id == bindparam("of_run"))
NO_MESSAGE_YET = 1 << 62


class Meter:
    """Measures messages against a budget; counts tokens only when bytes, which bound them, do not settle it."""

    def __init__(self, tokens: Tokens, budget: int) -> None:
        self._tokens = tokens
        self._budget = budget
        self._used = 0
        self._unmeasured: list[ChatMessage] = []

    def settles(self, messages: Sequence[ChatMessage]) -> bool:
        """True when all of them fit for certain, without counting."""
        return self._used + sum(map(bound, messages)) <= self._budget

    def admit(self, message: ChatMessage) -> bool:
        """Take the message into the budget if it fits."""
        if self._used + bound(message) <= self._budget:
            self._used += bound(message)
            self._unmeasured.append(message)
            return True
        self._used += sum(self._size(one) - bound(one) for one in self._unmeasured)
        self._unmeasured.clear()
        size = self._size(message)
        if self._used + size > self._budget:
            return False
        self._used += size
        return True

    def release(self, message: ChatMessage) -> None:
        """Give back a message that was admitted before something did not fit."""
        self._used -= self._size(message)

    def _size(self, message: ChatMessage) -> int:
        return MESSAGE_OVERHEAD + image_tokens(message) + self._tokens.count(text_of(message))


async def build_transcript(
    database: Database, run: RunRow, tokens: Tokens, *, budget: int
) -> Transcript:
    """The transcript of a run's next turn in at most `budget` tokens."""
    system = [SystemMessage(text)] if (text := instructions_of(run)) else []
    turns = await database.read(turns_of, run) if run.turns else []
    meter = Meter(tokens, budget)
    fixed = [*system, *turns]
    fits = all([await admit(meter, message) for message in fixed])
    history, newest_fits = await read_history(database, run, meter)
    messages = (*system, *(place.message for place in reversed(history)), *turns)
    return Transcript(messages, cut=not (fits and newest_fits))


async def read_history(database: Database, run: RunRow, meter: Meter) -> tuple[list[Place], bool]:
    """The thread's messages that fit, newest first. The newest is always there; the flag tells whether it fits."""
    limit = run.truncation_strategy.last_messages
    kept: list[Place] = []
    before = NO_MESSAGE_YET
    more = True
    while more:
        asked = wanted(limit, len(kept))
        page = await database.read(newest, run, before, asked)
        for place in page:
            if not await admit(meter, place.message):
                if not kept:
                    return [place], False
                if limit is None:
                    await keep_first(database, run, meter, kept)
                return kept, True
            kept.append(place)
        more = 0 < len(page) == asked
        before = page[-1].seq if page else before
    return kept, True


def wanted(limit: int | None, kept: int) -> int:
    return PAGE if limit is None else min(PAGE, limit - kept)


async def keep_first(database: Database, run: RunRow, meter: Meter, kept: list[Place]) -> None:
    """`auto` drops the middle: the thread's first message makes the oldest of the others give way."""
    first = await database.read(first_message, run)
    while not await admit(meter, first.message):
        if len(kept) == 1:
            return
        meter.release(kept.pop().message)
    kept.append(first)


async def admit(meter: Meter, message: ChatMessage) -> bool:
    """Counting tokens takes the processor for a while: then in a thread."""
    if meter.settles([message]):
        return meter.admit(message)
    return await asyncio.to_thread(meter.admit, message)


# Reading


def newest(tx: Tx, run: RunRow, before: int, limit: int) -> list[Place]:
    """The next older messages, newest first."""
    if limit == 0:
        return []
    rows = tx.session.execute(
        NEWEST,
        {"thread_id": run.thread_id, "of_run": run.id, "before": before, "limit": limit},
    )
    return [Place(seq, chat_message(role, content)) for seq, role, content in rows]


def first_message(tx: Tx, run: RunRow) -> Place:
    seq, role, content = tx.session.execute(
        FIRST, {"thread_id": run.thread_id, "of_run": run.id}
    ).one()
    return Place(seq, chat_message(role, content))


def turns_of(tx: Tx, run: RunRow) -> list[ChatMessage]:
    """The run's own turns, from its journal: text, calls and what they gave."""
    written = dict(tx.session.execute(WRITTEN, {"of_run": run.id}).all())
    messages: list[ChatMessage] = []
    text_turn = 0
    for step in tx.session.scalars(STEPS, {"of_run": run.id}):
        if isinstance(step.step_details, MessageCreationDetails):
            message_id = step.step_details.message_creation.message_id
            if message_id in written and step.status == "completed":
                messages.append(AssistantMessage(text_in(written[message_id])))
                text_turn = step.turn
        elif step.calls:
            beside = messages.pop() if text_turn == step.turn else None
            messages.extend(tool_turn(step, beside))
    return messages


def tool_turn(step: RunStepRow, beside: ChatMessage | None) -> list[ChatMessage]:
    """A turn with tool calls; text that was written beside them belongs to the same message."""
    text = beside.text if isinstance(beside, AssistantMessage) else ""
    calls = tuple(ToolCall(call.id, call.name, readable_arguments(call)) for call in step.calls)
    answers = [ToolMessage(call.id, step.heard.get(call.id, "")) for call in calls]
    return [AssistantMessage(text, calls), *answers]


def readable_arguments(call: RecordedCall) -> str:
    """Code that was not written as JSON, as if it had been: some servers read what they are told, and refuse all else."""
    if call.name != "code_interpreter" or is_object(call.arguments):
        return call.arguments
    return orjson.dumps({KEY: code_of(call.arguments)}).decode()


def is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


# Shapes


def instructions_of(run: RunRow) -> str:
    return "\n\n".join(filter(None, (run.instructions, run.additional_instructions)))


def chat_message(role: str, content: Sequence[Content]) -> ChatMessage:
    if role == "assistant":
        return AssistantMessage(text_in([without_citations(part) for part in content]))
    return UserMessage(tuple(part_of(part) for part in content))


def part_of(part: Content) -> Part:
    match part:
        case TextContent():
            return TextPart(part.text.value)
        case ImageUrlContent():
            return ImagePart(part.image_url.url, part.image_url.detail)
        case ImageFileContent():
            return StoredImage("", part.image_file.detail, part.image_file.file_id)
        case _:
            return TextPart(part.refusal)


def without_citations(part: Content) -> Content:
    """The markers of an earlier run name passages that the model no longer sees."""
    if not isinstance(part, TextContent):
        return part
    cited = [one for one in part.text.annotations if one["type"] == "file_citation"]
    value, kept, end = part.text.value, list[str](), 0
    for annotation in cited:
        kept.append(value[end : annotation["start_index"]])
        end = annotation["end_index"]
    return text_content("".join((*kept, value[end:])))


def text_in(content: Sequence[Content]) -> str:
    """All text of a message; pictures of an assistant are not shown to it again."""
    parts = [part_of(part) for part in content]
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def text_of(message: ChatMessage) -> str:
    match message:
        case UserMessage():
            return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
        case AssistantMessage():
            return message.text + "".join(call.name + call.arguments for call in message.tool_calls)
        case _:
            return message.text


def image_tokens(message: ChatMessage) -> int:
    """An estimate: nobody looks at a picture's size before it is sent."""
    parts = message.parts if isinstance(message, UserMessage) else ()
    pictures = [part for part in parts if isinstance(part, ImagePart)]
    return sum(LOW_IMAGE_TOKENS if one.detail == "low" else IMAGE_TOKENS for one in pictures)


def bound(message: ChatMessage) -> int:
    """No message has more tokens than this."""
    return MESSAGE_OVERHEAD + image_tokens(message) + upper_bound(text_of(message))
