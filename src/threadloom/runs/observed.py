"""What operators see of a run on its way: its spans, and how long models and tools take (ADR 0022). Nothing of what is said."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from time import perf_counter

from opentelemetry.trace import SpanKind

from threadloom.db.rows import RunRow
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    ModelError,
    Route,
    TextDelta,
    ToolCall,
)
from threadloom.runs.turn import Turn, TurnWriter
from threadloom.telemetry import genai, metrics
from threadloom.telemetry.spans import BUILT_IN, FUNCTION, Attribute, Attributes, span, tell
from threadloom.types.runs import RunUsage


class FirstText:
    """Waits for the first text of a run, which may come after many calls of tools."""

    def __init__(self) -> None:
        self._began: float | None = perf_counter()

    def seen(self, route: Route) -> None:
        if self._began is not None:
            seconds = perf_counter() - self._began
            metrics.RUN_FIRST_TOKEN.record(seconds, provider=route.provider, model=route.label)
            self._began = None


class ModelCall:
    """One answer of a model while it arrives."""

    def __init__(self, route: Route, first_text: FirstText) -> None:
        self._route = route
        self._first_text = first_text
        self._began = perf_counter()
        self.first_piece: float | None = None
        """Seconds."""
        self.outcome = "stopped"

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        async with aclosing(self._route.model.stream(request)) as events:
            async for event in events:
                self._saw(event)
                yield event

    def _saw(self, event: ChatEvent) -> None:
        if self.first_piece is None:
            self.first_piece = perf_counter() - self._began
        match event:
            case TextDelta():
                self._first_text.seen(self._route)
            case Finished():
                self.outcome = "completed"
            case _:
                pass

    def end(self) -> None:
        names = {"provider": self._route.provider, "model": self._route.label}
        metrics.MODEL_CALLS.record(perf_counter() - self._began, **names, outcome=self.outcome)
        if self.first_piece is not None:
            metrics.MODEL_FIRST_TOKEN.record(self.first_piece, **names)


async def ask(
    route: Route, request: ChatRequest, writer: TurnWriter, first_text: FirstText
) -> Turn:
    """One turn, as the model writes it. Raises ModelError as the model does."""
    call = ModelCall(route, first_text)
    with span("chat", route.name, asked_of(route, request), kind=SpanKind.CLIENT) as one:
        try:
            async with aclosing(call.stream(request)) as stream:
                turn = await writer.write(stream)
        except ModelError as error:
            call.outcome = "failed"
            metrics.MODEL_ERRORS.add(provider=route.provider, code=error.code)
            raise
        finally:
            call.end()
        tell(one, answered_as(turn) | {genai.FIRST_CHUNK: call.first_piece})
        return turn


def asked_of(route: Route, request: ChatRequest) -> Attributes:
    return {
        genai.PROVIDER: route.provider,
        genai.REQUEST_MODEL: route.name,
        genai.REQUEST_TEMPERATURE: request.temperature,
        genai.REQUEST_TOP_P: request.top_p,
        genai.REQUEST_MAX_TOKENS: request.max_completion_tokens,
    }


def answered_as(turn: Turn) -> dict[str, Attribute | None]:
    usage = turn.usage
    return {
        genai.FINISH_REASONS: [turn.reason],
        genai.INPUT_TOKENS: usage and usage.prompt_tokens,
        genai.OUTPUT_TOKENS: usage and usage.completion_tokens,
    }


def count_tokens(route: Route, usage: RunUsage) -> None:
    """What a turn has cost."""
    names = {"provider": route.provider, "model": route.label}
    metrics.TOKENS.add(usage.prompt_tokens, **names, direction="input")
    metrics.TOKENS.add(usage.completion_tokens, **names, direction="output")


@contextmanager
def executing(call: ToolCall) -> Generator[None]:
    """A call of a tool that this server runs."""
    with (
        metrics.TOOL_CALLS.timed(tool=call.name),
        span("execute_tool", call.name, called(call, BUILT_IN)),
    ):
        yield


def hand_over(call: ToolCall) -> None:
    """A call that the client answers, at its own time: the span marks when it was told."""
    with span("execute_tool", call.name, called(call, FUNCTION), kind=SpanKind.PRODUCER):
        pass


def called(call: ToolCall, kind: str) -> Attributes:
    return {genai.TOOL_NAME: call.name, genai.TOOL_TYPE: kind, genai.TOOL_CALL_ID: call.id}


def agent_of(run: RunRow) -> Attributes:
    return {
        genai.AGENT_ID: run.assistant_id,
        genai.CONVERSATION_ID: run.thread_id,
        genai.REQUEST_MODEL: run.model,
    }


def rested_as(run: RunRow) -> Attributes:
    """A run's status and what it has cost so far."""
    return {
        genai.RUN_STATUS: run.status,
        genai.INPUT_TOKENS: run.spent.prompt_tokens,
        genai.OUTPUT_TOKENS: run.spent.completion_tokens,
    }
