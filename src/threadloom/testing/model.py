"""A model that says what a test tells it to say."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from threadloom.ids import Ids
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    FailureCode,
    Finished,
    FinishReason,
    ModelDescription,
    ModelError,
    RefusalDelta,
    Route,
    TextDelta,
    ToolCallDelta,
    ToolCallOpened,
    Usage,
)
from threadloom.testing.ids import SequentialIds

Step = str | ChatEvent | ModelError | asyncio.Event
USAGE = Usage(prompt_tokens=10, completion_tokens=5)


class ScriptExhausted(AssertionError):
    """The model was called more often than the test scripted."""


class ScriptedModel:
    """Plays one scripted turn for each call, and keeps the requests it got."""

    def __init__(self, ids: Ids | None = None) -> None:
        self.requests: list[ChatRequest] = []
        self._ids = ids or SequentialIds()
        self._turns = deque[tuple[Step, ...]]()

    def says(
        self, *pieces: str, reason: FinishReason = "stop", usage: Usage | None = USAGE
    ) -> None:
        """A turn of text, one delta for each piece."""
        self.plays(*pieces, Finished(reason, usage))

    def calls(self, *calls: tuple[str, str], usage: Usage | None = USAGE) -> None:
        """A turn that calls functions: pairs of a name and the arguments as they stand."""
        self.says_then_calls((), *calls, usage=usage)

    def says_then_calls(
        self, pieces: Iterable[str], *calls: tuple[str, str], usage: Usage | None = USAGE
    ) -> None:
        """A turn of text that ends in calls."""
        opened = [event for index, call in enumerate(calls) for event in self._call(index, call)]
        self.plays(*pieces, *opened, Finished("tool_calls", usage))

    def refuses(self, *pieces: str, usage: Usage | None = USAGE) -> None:
        """A turn that is a refusal."""
        self.plays(*(RefusalDelta(piece) for piece in pieces), Finished("stop", usage))

    def fails(self, code: FailureCode, message: str, *, after: Iterable[str] = ()) -> None:
        """A turn that breaks off, at once or after some text."""
        self.plays(*after, ModelError(code, message))

    def waits(self, event: asyncio.Event, *pieces: str, usage: Usage | None = USAGE) -> None:
        """A turn that says `pieces` once the test has set `event`."""
        self.plays(event, *pieces, Finished("stop", usage))

    def plays(self, *steps: Step) -> None:
        """A turn of any steps: text, events, a pause until an `asyncio.Event` is set, an error.

        A turn that forgets its end gets one.
        """
        ended = steps and isinstance(steps[-1], Finished | ModelError)
        self._turns.append(steps if ended else (*steps, Finished("stop", USAGE)))

    @property
    def remaining(self) -> int:
        """Scripted turns that nobody has asked for."""
        return len(self._turns)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        self.requests.append(request)
        if not self._turns:
            raise ScriptExhausted(f"Call {len(self.requests)} of the model was not scripted.")
        for step in self._turns.popleft():
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, ModelError):
                raise step
            else:
                yield TextDelta(step) if isinstance(step, str) else step

    def _call(self, index: int, call: tuple[str, str]) -> tuple[ChatEvent, ...]:
        name, arguments = call
        opened = ToolCallOpened(index, self._ids.new("call_"), name)
        return (opened, ToolCallDelta(index, arguments)) if arguments else (opened,)


class ScriptedModels:
    """One model for every name, except the names that `unknown` lists."""

    def __init__(
        self,
        model: ScriptedModel,
        *,
        context_window: int = 128_000,
        cites: bool = True,
        unknown: Iterable[str] = (),
    ) -> None:
        self.model = model
        self.context_window = context_window
        self.cites = cites
        self.unknown = frozenset(unknown)

    def resolve(self, name: str) -> Route:
        if name in self.unknown:
            raise ModelError("server_error", f"The model '{name}' does not exist.")
        return Route(self.model, name, self.context_window, self.cites)

    async def available(self) -> list[ModelDescription]:
        return [ModelDescription("scripted", "threadloom")]
