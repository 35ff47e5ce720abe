"""Trying a model: what takes long at first is no sign of a proxy that holds answers back."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from threadloom.llm import trial
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    Route,
    TextDelta,
    ToolCallDelta,
    ToolCallOpened,
)
from threadloom.llm.trial import attempt


class Loading:
    """Loads for long when it is first asked, and answers quickly, as a small model in this process does."""

    def __init__(self) -> None:
        self._loaded = False

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        if not self._loaded:
            await asyncio.sleep(1.5 * trial.LATE)
            self._loaded = True
        if request.tools:
            yield ToolCallOpened(0, "call_1", request.tools[0].name)
            yield ToolCallDelta(0, '{"city": "Paris"}')
        else:
            for word in ("one, two, three, ", "four, five, six, ", "seven, eight"):
                yield TextDelta(word)
        yield Finished("tool_calls" if request.tools else "stop")


async def test_a_model_that_loads_at_first_streams_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "LATE", 1.0)
    monkeypatch.setattr(trial, "TOGETHER", 0.5)  # a crowded machine
    tried = await attempt(Route(Loading(), "loading", 4096))
    assert tried.works, tried
