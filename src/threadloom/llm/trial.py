"""Tries a model as runs use it: does it answer, piece by piece, and does it call a function that it is offered?"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from threadloom.llm.chat import (
    ChatRequest,
    Function,
    ModelError,
    Route,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallOpened,
    UserMessage,
)
from threadloom.llm.failures import SORRY, Failure

COUNT = "Count from one to twenty in words, separated by commas."
WEATHER = "What is the weather in Paris now? Call the function get_weather to find out."
GET_WEATHER = Function(
    "get_weather",
    "The weather in a city now.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
LONG_ENOUGH = 20
"""Characters; a shorter answer may well come in one piece."""
LATE, TOGETHER = 2.0, 0.05
"""Seconds: pieces that come so late and so close to each other were kept back until the last was there."""


@dataclass(frozen=True)
class Trial:
    """`problem` is why it did not answer; what follows is then not known. `first` and `total` are seconds."""

    problem: str | None = None
    first: float = 0.0
    total: float = 0.0
    streams: bool = True
    calls: bool = True

    @property
    def works(self) -> bool:
        return self.problem is None and self.streams and self.calls


@dataclass(frozen=True)
class Heard:
    """The answer to a question: when its pieces came, counted from the request, and what it was."""

    times: tuple[float, ...]
    text: str
    call: str | None
    arguments: str

    @property
    def is_streamed(self) -> bool:
        """Whether it came in pieces, as far as that can be told."""
        if len(self.text) < LONG_ENOUGH:
            return True
        return len(self.times) > 1 and not self.is_together

    @property
    def is_together(self) -> bool:
        """Whether pieces came late and all at once."""
        if len(self.times) <= 1:
            return False
        return self.times[-1] >= LATE and self.times[-1] - self.times[0] <= TOGETHER


async def attempt(route: Route) -> Trial:
    """Two short requests, or three."""
    try:
        counted = await ask(route, ChatRequest(route.name, (question(COUNT),)))
        if counted.is_together:  # or the model had to be loaded first
            counted = await ask(route, ChatRequest(route.name, (question(COUNT),)))
        if not counted.text:
            return Trial(problem="it answers nothing")
        called = await call(route)
    except ModelError as error:
        return Trial(problem=reason_of(error))
    return Trial(
        first=counted.times[0], total=counted.times[-1], streams=counted.is_streamed, calls=called
    )


def question(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


async def call(route: Route) -> bool:
    """Whether it calls a function; a provider that refuses requests with functions refuses only those. Raises ModelError."""
    request = ChatRequest(route.name, (question(WEATHER),), tools=(GET_WEATHER,))
    try:
        heard = await ask(route, request)
    except ModelError as error:
        if is_refused(error):
            return False
        raise
    return heard.call == GET_WEATHER.name and is_object(heard.arguments)


async def ask(route: Route, request: ChatRequest) -> Heard:
    """Raises ModelError."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    times: list[float] = []
    text = arguments = ""
    name: str | None = None
    async with aclosing(route.model.stream(request)) as events:
        async for event in events:
            match event:
                case TextDelta():
                    text += event.text
                    times.append(loop.time() - since)
                case ToolCallOpened(index=0):
                    name = event.name
                case ToolCallDelta(index=0):
                    arguments += event.arguments
                case _:
                    pass
    return Heard(tuple(times), text, name, arguments)


def is_object(arguments: str) -> bool:
    try:
        return isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False


def is_refused(error: ModelError) -> bool:
    """The request was not understood."""
    failure = error.__context__
    return isinstance(failure, Failure) and failure.status in {400, 404, 422, 500, 501}


def reason_of(error: ModelError) -> str:
    """What clients are told, and what only operators are: the status, or how the connection failed."""
    failure = error.__context__
    if not isinstance(failure, Failure):
        return error.message
    detail = f"status {failure.status}" if failure.status else failure.reason
    return f"no answer ({detail})" if error.message == SORRY else f"{error.message} ({detail})"
