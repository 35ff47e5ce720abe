"""The built-in demonstration model: no key, no network, no chance. It quotes; it does not reason.

A rule looks at the conversation and answers or passes; the first that answers decides the turn. Later tools add
their rules to `RULES`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from threadloom.ids import Ids
from threadloom.llm import analysis
from threadloom.llm.analysis import CODE_INTERPRETER
from threadloom.llm.chat import (
    AssistantMessage,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    Finished,
    Function,
    ImagePart,
    NamedTool,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
    Usage,
    UserMessage,
)
from threadloom.llm.filling import fill
from threadloom.llm.quoting import FILE_SEARCH, Question, answer, arguments_for, seeks
from threadloom.llm.words import content_stems, sentences, topic_stems
from threadloom.tokens import Tokens, encoding_for

INTRODUCTION = (
    "I am Threadloom's built-in demonstration model: I quote what I receive and I do not reason."
)
CONNECT = """To connect a real model, start the server with these two settings:
THREADLOOM_UPSTREAM__BASE_URL=http://127.0.0.1:11434/v1
THREADLOOM_UPSTREAM__API_KEY=your-key"""
LONGEST_QUOTE = 500
MESSAGE_OVERHEAD = 4
NAME_WEIGHT = 2
CLEAR_MATCH = 2
BUILT_IN = frozenset((CODE_INTERPRETER, FILE_SEARCH))
PIECE = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")
ABOUT_BEFORE = re.compile(
    r"\bi (just )?(say|said|ask|asked|write|wrote|tell|told|mention\w*)\b"
    r"|\b(previous|last|earlier|first) (message|question|thing)\b",
    re.IGNORECASE,
)
ABOUT_FIRST = re.compile(r"\bfirst\b", re.IGNORECASE)
ABOUT_NAME = re.compile(r"\bmy name\b|\bwho am i\b", re.IGNORECASE)
OWN_NAME = re.compile(r"\b(my name|i am|i'm|i\u2019m|call me)\b", re.IGNORECASE)
QUESTION = re.compile(
    r"\?|^\s*(what|who|when|where|which|why|how|do|did|can you|repeat|tell me)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Conversation:
    """A request as the rules read it: the newest question, what came before it, what was called since."""

    request: ChatRequest
    question: UserMessage
    earlier: tuple[ChatMessage, ...]
    since: tuple[ChatMessage, ...]

    @property
    def text(self) -> str:
        return text_of(self.question)

    @property
    def earlier_texts(self) -> list[str]:
        """What the user wrote before, oldest first."""
        return [text_of(message) for message in self.earlier if isinstance(message, UserMessage)]

    @property
    def answers(self) -> list[str]:
        """What the model wrote before, oldest first."""
        return [message.text for message in self.earlier if isinstance(message, AssistantMessage)]

    @property
    def offered(self) -> dict[str, Function]:
        return {function.name: function for function in self.request.tools}

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """Pairs of a function and what it returned, for this question."""
        return [
            (self._called.get(message.call_id, "The tool"), message.text)
            for message in self.since
            if isinstance(message, ToolMessage)
        ]

    @property
    def called(self) -> set[str]:
        return set(self._called.values())

    @property
    def _called(self) -> dict[str, str]:
        turns = (message for message in self.since if isinstance(message, AssistantMessage))
        return {call.id: call.name for turn in turns for call in turn.tool_calls}


@dataclass(frozen=True)
class Reply:
    """What the model will say: text, or calls as pairs of a name and arguments."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


Rule = Callable[[Conversation], Reply | None]


class EmbeddedModel:
    """Answers every name with the same rules."""

    def __init__(self, ids: Ids, rules: tuple[Rule, ...] | None = None) -> None:
        self._ids = ids
        self._rules = RULES if rules is None else rules

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        # The first count reads a vocabulary, which takes a fifth of a second; many passages take 20 ms to read.
        reply, allowed, usage = await asyncio.to_thread(self._answer, request)
        for piece in PIECE.findall(allowed.text):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        for index, (name, arguments) in enumerate(allowed.calls):
            yield ToolCallOpened(index, self._ids.new("call_"), name)
            for piece in PIECE.findall(arguments):
                yield ToolCallDelta(index, piece)
                await asyncio.sleep(0)
        done = "tool_calls" if reply.calls else "stop"
        yield Finished(done if allowed == reply else "length", usage)

    def _answer(self, request: ChatRequest) -> tuple[Reply, Reply, Usage]:
        """The reply, as much of it as is allowed, and what it costs."""
        conversation = read(request)
        replies = (rule(conversation) for rule in self._rules)
        reply = next((found for found in replies if found is not None), introduce(conversation))
        return reply, *within_budget(request, reply, encoding_for(request.model))


def read(request: ChatRequest) -> Conversation:
    asked = [i for i, message in enumerate(request.messages) if isinstance(message, UserMessage)]
    last = asked[-1] if asked else len(request.messages)
    question = request.messages[last] if asked else UserMessage(())
    assert isinstance(question, UserMessage)
    return Conversation(request, question, request.messages[:last], request.messages[last + 1 :])


def within_budget(request: ChatRequest, reply: Reply, tokens: Tokens) -> tuple[Reply, Usage]:
    """The reply, cut at `max_completion_tokens`, and the count of both sides."""
    left = request.max_completion_tokens
    prompt = sum(tokens.count(prompt_text(m)) + MESSAGE_OVERHEAD for m in request.messages)
    prompt += sum(tokens.count(declaration(function)) for function in request.tools)
    written = [reply.text, *(arguments for _, arguments in reply.calls)]
    kept: list[str] = []
    for text in written:
        kept.append(text if left is None else tokens.truncate(text, left))
        left = None if left is None else left - tokens.count(kept[-1])
    calls = tuple((name, text) for (name, _), text in zip(reply.calls, kept[1:], strict=True))
    completion = sum(tokens.count(text) for text in kept)
    return Reply(kept[0], calls), Usage(prompt, completion)


def prompt_text(message: ChatMessage) -> str:
    match message:
        case UserMessage():
            return text_of(message)
        case AssistantMessage():
            return message.text + "".join(call.name + call.arguments for call in message.tool_calls)
        case _:
            return message.text


def declaration(function: Function) -> str:
    parameters = orjson.dumps(function.parameters or {}).decode()
    return f"{function.name} {function.description or ''} {parameters}"


def search_files(conversation: Conversation) -> Reply | None:
    """Look the question up, once; no search when it was answered otherwise, or asks for nothing that files know."""
    offered = FILE_SEARCH in conversation.offered
    if not offered or conversation.called or conversation.request.tool_choice == "none":
        return None
    choice = conversation.request.tool_choice
    forced = choice == "required" or choice == NamedTool(FILE_SEARCH)
    if not forced and (isinstance(choice, NamedTool) or not seeks_documents(conversation)):
        return None
    return Reply(calls=((FILE_SEARCH, arguments_for(question_of(conversation))),))


def run_code(conversation: Conversation) -> Reply | None:
    """Python for the question, once: the user's own, a sum, or the analysis of a table."""
    function = conversation.offered.get(CODE_INTERPRETER)
    choice = conversation.request.tool_choice
    if function is None or CODE_INTERPRETER in conversation.called or choice == "none":
        return None
    if isinstance(choice, NamedTool) and choice.name != CODE_INTERPRETER:
        return None
    first, searches = not conversation.called, FILE_SEARCH in conversation.offered
    wanted = analysis.Request(
        conversation.text,
        tables=[] if about_talk(conversation.text) else analysis.tables_in(function),
        columns=analysis.columns_in(conversation.answers),
        first=first,
        alone=first and not searches,
        forced=choice == NamedTool(CODE_INTERPRETER)
        or (choice == "required" and first and not searches),
    )
    code = analysis.code_for(wanted)
    return Reply(calls=((CODE_INTERPRETER, analysis.arguments_for(code)),)) if code else None


def question_of(conversation: Conversation) -> Question:
    return Question.of(conversation.text, conversation.earlier_texts)


def seeks_documents(conversation: Conversation) -> bool:
    return not about_talk(conversation.text) and seeks(
        conversation.text, conversation.earlier_texts
    )


def about_talk(text: str) -> bool:
    return bool(ABOUT_NAME.search(text) or ABOUT_BEFORE.search(text))


def quote_passages(conversation: Conversation) -> Reply | None:
    """The best sentences that the search found, and what other functions returned."""
    heard = [text for name, text in conversation.outputs if name == FILE_SEARCH]
    if not heard:
        return None
    found = answer(question_of(conversation), heard)
    return Reply("\n".join([found, *quoted_outputs(conversation)]))


def call_functions(conversation: Conversation) -> Reply | None:
    """The functions that were asked for or clearly match, each once for a question."""
    chosen = [f for f in choose(conversation) if f.name not in conversation.called]
    if not chosen:
        return None
    if not conversation.request.parallel_tool_calls:
        chosen = chosen[:1]
    return Reply(calls=tuple((f.name, arguments(f, conversation.text)) for f in chosen))


def choose(conversation: Conversation) -> list[Function]:
    functions = [one for one in conversation.request.tools if one.name not in BUILT_IN]
    match conversation.request.tool_choice:
        case "none":
            return []
        case NamedTool(name):
            return [function for function in functions if function.name == name]
        case "required" if not conversation.called and len(functions) == len(
            conversation.request.tools
        ):
            return matching(functions, conversation.text) or functions[:1]
        case _:
            return matching(functions, conversation.text)


def matching(functions: Sequence[Function], text: str) -> list[Function]:
    """Those that share the topic; a far better match leaves the others out."""
    asked = content_stems(text)
    scores = {function.name: score(function, asked) for function in functions}
    best = max(scores.values(), default=0)
    enough = max(CLEAR_MATCH, best / 2)
    return [function for function in functions if scores[function.name] >= enough]


def score(function: Function, asked: set[str]) -> int:
    named = topic_stems(function.name) & asked
    described = topic_stems(function.description or "") & asked
    return NAME_WEIGHT * len(named) + len(described - named)


def arguments(function: Function, text: str) -> str:
    about = f"{function.name} {function.description or ''}"
    return orjson.dumps(fill(function.parameters or {"type": "object"}, text, about=about)).decode()


def write_json(conversation: Conversation) -> Reply | None:
    """`response_format`: a schema is filled from the question and the outputs, an object quotes."""
    wanted = conversation.request.response_format or {}
    known = "\n".join([conversation.text, *said_by_tools(conversation)])
    match wanted.get("type"):
        case "json_schema":
            schema: dict[str, Any] = wanted.get("json_schema", {}).get("schema") or {}
            return Reply(orjson.dumps(fill(schema, known)).decode())
        case "json_object":
            content = {"note": INTRODUCTION, "received": known}
            return Reply(orjson.dumps(content).decode())
        case _:
            return None


def said_by_tools(conversation: Conversation) -> list[str]:
    """What the functions returned; of a search, what answers the question."""
    return [
        answer(question_of(conversation), [output]) if name == FILE_SEARCH else output
        for name, output in conversation.outputs
    ]


def quote_outputs(conversation: Conversation) -> Reply | None:
    outputs = quoted_outputs(conversation)
    return Reply("\n".join(outputs)) if outputs else None


def quoted_outputs(conversation: Conversation) -> list[str]:
    return [
        told_of(conversation, name, output)
        for name, output in conversation.outputs
        if name != FILE_SEARCH
    ]


def told_of(conversation: Conversation, name: str, output: str) -> str:
    if name == CODE_INTERPRETER:
        function = conversation.offered.get(CODE_INTERPRETER)
        tables = analysis.tables_in(function) if function else []
        return analysis.told(conversation.text, output, tables)
    return f"{name} returned: {quote(output)}"


def recall(conversation: Conversation) -> Reply | None:
    """A question about the conversation is answered with the user's own words."""
    if not QUESTION.search(conversation.text):
        return None
    said = recalled(conversation.text, conversation.earlier_texts)
    return None if said is None else Reply(f"You wrote earlier: {quote(said)}")


def recalled(question: str, earlier: list[str]) -> str | None:
    if not earlier:
        return None
    said = [sentence for text in earlier for sentence in sentences(text)]
    if ABOUT_NAME.search(question):
        return next((s for s in reversed(said) if OWN_NAME.search(s)), None)
    if best := best_sentence(question, said):
        return best
    if ABOUT_BEFORE.search(question):
        return earlier[0] if ABOUT_FIRST.search(question) else earlier[-1]
    return None


def best_sentence(question: str, said: list[str]) -> str | None:
    """The sentence that has at least half of the question's words; the newest of the best."""
    asked = topic_stems(ABOUT_BEFORE.sub(" ", question))
    statements = [sentence for sentence in reversed(said) if not sentence.endswith("?")]
    overlap = {sentence: len(asked & content_stems(sentence)) for sentence in statements}
    best = max(overlap, key=overlap.__getitem__, default=None)
    return best if best and overlap[best] and 2 * overlap[best] >= len(asked) else None


def introduce(conversation: Conversation) -> Reply:
    """What it is, what it received, and how to connect a real model."""
    images = sum(isinstance(part, ImagePart) for part in conversation.question.parts)
    earlier = sum(isinstance(m, UserMessage | AssistantMessage) for m in conversation.earlier)
    received = f"You wrote: {quote(conversation.text)}"
    if images:
        received += f" with {counted(images, 'image')}, which I cannot see"
    history = f"{counted(earlier, 'earlier message')} of this thread reached me with it."
    runs = f"\n{analysis.WHAT_IT_RUNS}" if CODE_INTERPRETER in conversation.offered else ""
    return Reply(f"{INTRODUCTION}{runs}\n\n{received}\n{history}\n\n{CONNECT}")


def counted(number: int, what: str) -> str:
    amount = str(number) if number else "No"
    return f"{amount} {what}" if number == 1 else f"{amount} {what}s"


def quote(text: str) -> str:
    shown = text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…"
    return f"“{shown}”"


def text_of(message: UserMessage) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


RULES: tuple[Rule, ...] = (
    call_functions,
    run_code,
    search_files,
    write_json,
    quote_passages,
    quote_outputs,
    recall,
)
