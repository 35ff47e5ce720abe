"""Chat Completions as JSON: a request to send, and the chunks of an answer."""

from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from threadloom.ids import Ids
from threadloom.llm.chat import (
    AssistantMessage,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    Function,
    ImagePart,
    NamedTool,
    Part,
    RefusalDelta,
    SystemMessage,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
    Usage,
    UserMessage,
)

Json = dict[str, Any]
DONE = b"[DONE]"
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class AnswerBroken(Exception):
    """What came is not an answer."""


class AnswerFailed(Exception):
    """The provider reported an error inside an answer that began well."""

    def __init__(self, error: object) -> None:
        super().__init__("The provider reported an error inside its answer.")
        self.error = error


@dataclass(frozen=True)
class Dialect:
    """Where servers of Chat Completions differ in what they accept."""

    limit_field: str
    sends_default_parallel: bool


# OpenAI's reasoning models refuse `max_tokens`, and `parallel_tool_calls` even at its default.
OPENAI = Dialect("max_completion_tokens", sends_default_parallel=False)
# Ollama, LM Studio, Mistral and older vLLM and llama.cpp know only `max_tokens` (some ignore the new name, some
# refuse it), and llama.cpp calls functions in parallel only when it is asked to.
COMPATIBLE = Dialect("max_tokens", sends_default_parallel=True)


def request_body(request: ChatRequest, dialect: Dialect) -> Json:
    """The body without `stream`; what the request leaves open is not sent."""
    body: Json = {"model": request.model, "messages": [message(m) for m in request.messages]}
    optional = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        dialect.limit_field: request.max_completion_tokens,
        "response_format": request.response_format,
        "reasoning_effort": request.reasoning_effort,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    if request.tools:
        body.update(tool_fields(request, dialect))
    return body


def tool_fields(request: ChatRequest, dialect: Dialect) -> Json:
    fields: Json = {"tools": [{"type": "function", "function": function(f)} for f in request.tools]}
    if isinstance(request.tool_choice, NamedTool):
        name = request.tool_choice.name
        fields["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif request.tool_choice != "auto":
        fields["tool_choice"] = request.tool_choice
    if dialect.sends_default_parallel or not request.parallel_tool_calls:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def function(tool: Function) -> Json:
    fields: Json = {"name": tool.name}
    if tool.description is not None:
        fields["description"] = tool.description
    if tool.parameters is not None:
        fields["parameters"] = tool.parameters
    if tool.strict:
        fields["strict"] = True
    return fields


def message(item: ChatMessage) -> Json:
    match item:
        case SystemMessage():
            return {"role": "system", "content": item.text}
        case UserMessage():
            return {"role": "user", "content": content(item.parts)}
        case AssistantMessage():
            return assistant(item)
        case ToolMessage():
            return {"role": "tool", "tool_call_id": item.call_id, "content": item.text}
    assert_never(item)


def assistant(item: AssistantMessage) -> Json:
    if not item.tool_calls:
        return {"role": "assistant", "content": item.text}
    calls = [tool_call(call) for call in item.tool_calls]
    return {"role": "assistant", "content": item.text or None, "tool_calls": calls}


def tool_call(call: ToolCall) -> Json:
    # A function without parameters may be called with an empty string, which not every server takes back.
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def content(parts: tuple[Part, ...]) -> str | list[Json]:
    """Plain text goes as a string: small servers know nothing else."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(texts) == len(parts):
        return "\n".join(texts)
    return [content_part(part) for part in parts]


def content_part(part: Part) -> Json:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}
    assert_never(part)


@dataclass
class OpenCall:
    """A tool call that is arriving; `opened` once its beginning was passed on."""

    index: int
    provider_index: int | None
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    opened: bool = False


class ChunkReader:
    """Reads the chunks of one answer as events."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._calls: list[OpenCall] = []
        self._used = set[str]()
        """Ids of calls that were passed on; some servers give all of a turn the same."""
        self._reason: str | None = None
        self._usage: Usage | None = None

    @property
    def has_finish_reason(self) -> bool:
        return self._reason is not None

    def read(self, payload: bytes) -> list[ChatEvent]:
        """The events of one chunk as it came. Raises AnswerBroken, AnswerFailed."""
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise AnswerBroken("A chunk is not JSON.") from None
        try:
            return self.events(chunk)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise AnswerBroken("A chunk does not have the shape of Chat Completions.") from None

    def events(self, chunk: Json) -> list[ChatEvent]:
        """The events of one parsed chunk, or of a whole completion."""
        if (usage := chunk.get("usage")) is not None:
            self._usage = read_usage(usage)
        if not (choices := chunk.get("choices")):
            if (error := chunk.get("error")) is not None:
                raise AnswerFailed(error)
            return []
        choice = choices[0]
        if (reason := choice.get("finish_reason")) is not None:
            if (error := chunk.get("error") or choice.get("error")) is not None:
                raise AnswerFailed(error)
            self._reason = reason
        return self._delta(choice.get("delta") or choice.get("message") or {})

    def finish(self) -> list[ChatEvent]:
        """The events that end the turn."""
        events: list[ChatEvent] = []
        for call in self._calls:
            if not call.opened and call.name:
                events += self._open(call)
        return [*events, Finished(self._finish_reason(), self._usage)]

    def _delta(self, delta: Json) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        if text := delta.get("content"):
            events.append(TextDelta(text_of(text)))
        if refusal := delta.get("refusal"):
            events.append(RefusalDelta(refusal))
        if calls := delta.get("tool_calls"):
            for fragment in calls:
                events += self._fragment(fragment)
        return events

    def _fragment(self, fragment: Json) -> list[ChatEvent]:
        function: Json = fragment.get("function") or {}
        call = self._call_of(fragment, function)
        call.id = call.id or fragment.get("id") or None
        call.name = call.name or function.get("name") or None
        arguments = as_text(function.get("arguments"))
        if call.opened:
            return [ToolCallDelta(call.index, arguments)] if arguments else []
        call.arguments += arguments
        # An id that is still missing when arguments come may never come: ours serves as well.
        if call.name and (call.id or call.arguments):
            return self._open(call)
        return []

    def _call_of(self, fragment: Json, function: Json) -> OpenCall:
        index, id_, name = fragment.get("index"), fragment.get("id"), function.get("name")
        for call in reversed(self._calls):
            if index is None and id_ is None and not (name and call.name):
                return call
            if index is None and id_ is not None and call.id == id_:
                return call
            # Gemini gives every parallel call the index 0; only a new id and a name tell them apart.
            another = name and id_ and call.id and call.id != id_
            if index is not None and call.provider_index == index and not another:
                return call
        call = OpenCall(len(self._calls), index)
        self._calls.append(call)
        return call

    def _open(self, call: OpenCall) -> list[ChatEvent]:
        call.opened = True
        id_ = call.id if call.id and call.id not in self._used else self._ids.new("call_")
        self._used.add(id_)
        opened = ToolCallOpened(call.index, id_, call.name or "")
        return [opened, ToolCallDelta(call.index, call.arguments)] if call.arguments else [opened]

    def _finish_reason(self) -> FinishReason:
        reason = FINISH_REASONS.get(self._reason or "stop", "stop")
        called = any(call.opened for call in self._calls)
        if reason in ("stop", "tool_calls"):
            return "tool_calls" if called else "stop"
        return reason


def text_of(text: str | list[Json]) -> str:
    """Mistral's reasoning models answer with parts instead of a string."""
    if isinstance(text, str):
        return text
    return "".join(part["text"] for part in text if part.get("type") == "text")


def as_text(arguments: object) -> str:
    """Some servers send the arguments as an object instead of a string."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()


def read_usage(usage: Json) -> Usage:
    prompt: Json = usage.get("prompt_tokens_details") or {}
    completion: Json = usage.get("completion_tokens_details") or {}
    return Usage(
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=prompt.get("cached_tokens") or 0,
        reasoning_tokens=completion.get("reasoning_tokens") or 0,
    )
