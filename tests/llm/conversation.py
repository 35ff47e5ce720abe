"""How the tests of this directory talk to a model."""

from contextlib import aclosing
from typing import Any

import pytest

from threadloom.llm.chat import (
    ChatEvent,
    ChatModel,
    ChatRequest,
    Finished,
    Function,
    ModelError,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallOpened,
    UserMessage,
)

WEATHER = Function(
    "get_weather",
    "Get the current weather of a city",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
    },
)


def said(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


def ask(text: str, **fields: Any) -> ChatRequest:
    return ChatRequest(model="gpt-4o", messages=(said(text),), **fields)


async def events(model: ChatModel, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in model.stream(request)]


async def text(model: ChatModel, request: ChatRequest) -> str:
    return written(await events(model, request))


async def calls(model: ChatModel, request: ChatRequest) -> list[ToolCall]:
    return called(await events(model, request))


async def failure(model: ChatModel, request: ChatRequest) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await events(model, request)
    return raised.value


async def until_failure(model: ChatModel, request: ChatRequest) -> list[ChatEvent]:
    """The events that came before the model failed."""
    seen: list[ChatEvent] = []
    with pytest.raises(ModelError):
        await collect(model, request, seen)
    return seen


async def collect(model: ChatModel, request: ChatRequest, seen: list[ChatEvent]) -> None:
    async for event in model.stream(request):
        seen.append(event)  # noqa: PERF401 - what came before a failure is kept


async def first(model: ChatModel, request: ChatRequest) -> ChatEvent:
    """The first event; the rest is given up."""
    stream = model.stream(request)
    async with aclosing(stream):  # pyright: ignore[reportArgumentType] - all our models are generators
        return await anext(stream)


async def until_finished(model: ChatModel, request: ChatRequest) -> None:
    """Stop reading at `Finished`, without asking whether more comes."""
    async for event in model.stream(request):
        if isinstance(event, Finished):
            return


def written(seen: list[ChatEvent]) -> str:
    return "".join(event.text for event in seen if isinstance(event, TextDelta))


def called(seen: list[ChatEvent]) -> list[ToolCall]:
    return [
        ToolCall(event.id, event.name, arguments_of(seen, event.index))
        for event in seen
        if isinstance(event, ToolCallOpened)
    ]


def arguments_of(seen: list[ChatEvent], index: int) -> str:
    return "".join(
        event.arguments
        for event in seen
        if isinstance(event, ToolCallDelta) and event.index == index
    )


def ending(seen: list[ChatEvent]) -> Finished:
    assert isinstance(seen[-1], Finished)
    return seen[-1]
