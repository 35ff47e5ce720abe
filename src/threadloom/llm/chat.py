"""The conversation that a model continues, and what it answers, whatever the provider.

The shapes follow Chat Completions, because that is what nearly every provider speaks; the names of the events are ours.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FailureCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class TextPart:
    """A piece of text of a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """A picture: an http(s) or data URL."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


Part = TextPart | ImagePart


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for; `arguments` is its raw string, not always JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class SystemMessage:
    """Instructions."""

    text: str


@dataclass(frozen=True)
class UserMessage:
    """What the user said and showed."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class AssistantMessage:
    """An earlier answer of the model."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class ToolMessage:
    """The output of one tool call."""

    call_id: str
    text: str


ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True)
class Function:
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True)
class NamedTool:
    """The one function the model must call."""

    name: str


ToolChoice = Literal["none", "auto", "required"] | NamedTool


@dataclass(frozen=True)
class ChatRequest:
    """One turn to be generated. None means: leave it to the provider."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[Function, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    temperature: float | None = None
    top_p: float | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of one turn."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True)
class RefusalDelta:
    """More text of a refusal."""

    text: str


@dataclass(frozen=True)
class ToolCallOpened:
    """The model begins call number `index` (0, 1, … within the turn); sent once per index, before its arguments."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class ToolCallDelta:
    """More of the arguments of call number `index`."""

    index: int
    arguments: str


@dataclass(frozen=True)
class Finished:
    """The turn is over; always the last event. `usage` is None when the provider does not count."""

    reason: FinishReason
    usage: Usage | None = field(default=None)


ChatEvent = TextDelta | RefusalDelta | ToolCallOpened | ToolCallDelta | Finished


class ModelError(Exception):
    """The model could not answer. `message` may be shown to a client: no provider text beyond what BEHAVIOURS allows."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code: FailureCode = code
        self.message = message


class ChatModel(Protocol):
    """Continues conversations."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        """Yield the turn as it is generated, `Finished` last. Raises ModelError."""
        ...


@dataclass(frozen=True)
class ModelDescription:
    """What `GET /v1/models` says of a model."""

    id: str
    owned_by: str
    created: int = 0
    description: str | None = None


@dataclass(frozen=True)
class Route:
    """Where a model name leads: who answers, under which name, and how many tokens fit.

    `cites`: its answers carry citations by themselves; to those of others some are added. `sees`: it can be sent pictures.
    `provider` and `label` are what metrics call them: names that an operator configured, or "other".
    """

    model: ChatModel
    name: str
    context_window: int
    cites: bool = True
    sees: bool = True
    provider: str = "other"
    label: str = "other"


class Models(Protocol):
    """All models that this server answers with."""

    def resolve(self, name: str) -> Route:
        """Raises ModelError when no provider answers for `name`."""
        ...

    async def available(self) -> list[ModelDescription]:
        """The models and aliases that `GET /v1/models` lists."""
        ...
