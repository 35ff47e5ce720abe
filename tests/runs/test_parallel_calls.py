"""Several calls in one turn, as the official SDK tells of them: each begins once, and is done once, with all of its outputs.

No recording of the hosted service shows code beside other calls. The order is the one that the handlers of all its SDKs need.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from openai import (
    AssistantEventHandler,
    AsyncAssistantEventHandler,
    AsyncOpenAI,
    AsyncStream,
    DefaultHttpxClient,
    OpenAI,
)
from openai.lib.streaming import AsyncAssistantStreamManager
from openai.types.beta import AssistantStreamEvent
from openai.types.beta.threads import Run

from tests.runs.driver import (
    CODE,
    FUNCTION,
    Api,
    Json,
    Talk,
    calls_of,
    names,
    parsed_all,
    streamed_calls,
)
from tests.runs.workers import doomed, started
from tests.support.server import CERTIFICATES, Running, running_server
from threadloom.llm.chat import Finished, ToolCallDelta, ToolCallOpened
from threadloom.runs.tools import ToolFailure
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels
from threadloom.testing.model import USAGE, Step

LEASE = 15
SEARCH: Json = {"type": "file_search"}
TOOLS = [CODE, SEARCH, FUNCTION]
ARGUMENTS = {
    "code_interpreter": ('{{"code": "pri', 'nt({})"}}'),
    "file_search": ('{{"queries": ["{}"]}}',),
    "weather": ('{{"city": ', "{}}}"),
}
TOLD = {
    "code_interpreter": "print({0}) -> ['print({0})']",
    "file_search": "[]",
    "weather": '{{"city": {}}} -> None',
}
TURNS = [
    ("code_interpreter", "code_interpreter"),
    ("code_interpreter", "code_interpreter", "code_interpreter"),
    ("file_search", "code_interpreter", "code_interpreter"),
    ("code_interpreter", "file_search", "code_interpreter", "file_search"),
    ("weather", "code_interpreter", "code_interpreter"),
    ("code_interpreter", "weather", "code_interpreter", "weather"),
]


class Told:
    """What a handler was told of calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._shown = dict[str, str]()

    def created(self, call: Any) -> None:
        self.lines.append(f"created {call.id}")
        self._shown[call.id] = text_of(call)

    def delta(self, call: Any) -> None:
        """What no delta brings to a handler is never seen by those that print code as it comes."""
        assert self._shown[call.id] in ("", "[]")

    def done(self, call: Any) -> None:
        self.lines.append(f"done {call.id}: {text_of(call)}")


def text_of(call: Any) -> str:
    match call.type:
        case "code_interpreter":
            outputs = [one.logs for one in call.code_interpreter.outputs]
            written = call.code_interpreter.input
            return f"{written} -> {outputs}" if written or outputs else ""
        case "file_search":
            return str(call.file_search.results)
        case _:
            written, output = call.function.arguments, call.function.output
            return f"{written} -> {output}" if written or output else ""


class Handler(AsyncAssistantEventHandler):
    def __init__(self) -> None:
        super().__init__()
        self.told = Told()

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.told.created(tool_call)

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.told.delta(snapshot)

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.told.done(tool_call)


class BlockingHandler(AssistantEventHandler):
    def __init__(self) -> None:
        super().__init__()
        self.told = Told()

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.told.created(tool_call)

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.told.delta(snapshot)

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.told.done(tool_call)


def turn_of(kinds: Iterable[str]) -> list[Step]:
    """A turn that calls these, one after the other."""
    steps: list[Step] = []
    for number, kind in enumerate(kinds):
        steps.append(ToolCallOpened(number, f"call_{number}", kind))
        steps += (ToolCallDelta(number, one.format(number)) for one in ARGUMENTS.get(kind, ()))
    return [*steps, Finished("tool_calls", USAGE)]


def once_each(kinds: Iterable[str]) -> list[str]:
    return [
        line
        for number, kind in enumerate(kinds)
        for line in (f"created call_{number}", f"done call_{number}: {TOLD[kind].format(number)}")
    ]


def without_repeats(lines: list[str]) -> list[str]:
    """openai-python says again that the last call is done at each end of a step and of the run: whatever a server sends."""
    while lines[-2:-1] == lines[-1:]:
        lines = lines[:-1]
    return lines


async def assert_streamed_as_stored(talk: Talk, text: str) -> None:
    """In whole calls, one after the other."""
    streamed = streamed_calls(parsed_all(text))
    (stored,) = [one for one in await talk.steps(parsed_all(text)[0].json) if calls_of(one)]
    assert streamed == {stored["id"]: calls_of(stored)}


@pytest.mark.parametrize("kinds", TURNS)
async def test_a_handler_is_told_of_each_call_once(
    api: Api, client: AsyncOpenAI, model: ScriptedModel, kinds: tuple[str, ...]
) -> None:
    model.plays(*turn_of(kinds))
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    handler = Handler()
    async with client.beta.threads.runs.stream(
        thread_id=talk.thread, assistant_id=talk.assistant, event_handler=handler
    ) as stream:
        await stream.until_done()
    assert without_repeats(handler.told.lines) == once_each(kinds)
    assert stream.current_run is not None
    text = await talk.events(stream.current_run.id)
    await assert_streamed_as_stored(talk, text)


async def test_a_blocking_handler_is_told_of_each_call_once(
    api: Api, server: Running, model: ScriptedModel
) -> None:
    model.plays(*turn_of(TURNS[1]))
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    handler = BlockingHandler()
    web = DefaultHttpxClient(verify=CERTIFICATES)

    def listen() -> None:
        client = OpenAI(base_url=server.base_url, api_key=server.key, http_client=web)
        with (
            client,
            client.beta.threads.runs.stream(
                thread_id=talk.thread, assistant_id=talk.assistant, event_handler=handler
            ) as stream,
        ):
            stream.until_done()

    await asyncio.to_thread(listen)
    assert without_repeats(handler.told.lines) == once_each(TURNS[1])


async def test_a_call_is_streamed_with_its_outputs_before_the_next_begins(
    api: Api, model: ScriptedModel
) -> None:
    model.plays(*turn_of(("code_interpreter", "weather", "code_interpreter")))
    talk = await api.talk(tools=TOOLS)
    pieces = pieces_of(await talk.transcript())
    code = "code_interpreter"
    assert [piece.pop("index") for piece in pieces] == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert pieces == [
        {"id": "call_0", "type": code, code: {"input": "", "outputs": []}},
        {"type": code, code: {"input": "pri"}},
        {"type": code, code: {"input": "nt(0)"}},
        {"type": code, code: {"outputs": [{"index": 0, "type": "logs", "logs": "print(0)"}]}},
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": "", "output": None},
        },
        {"type": "function", "function": {"arguments": '{"city": 1}'}},
        {"id": "call_2", "type": code, code: {"input": "", "outputs": []}},
        {"type": code, code: {"input": "print(2)"}},
        {"type": code, code: {"outputs": [{"index": 0, "type": "logs", "logs": "print(2)"}]}},
    ]


def pieces_of(text: str) -> list[Json]:
    return [
        piece
        for event in parsed_all(text)
        if event.name == "thread.run.step.delta"
        for piece in event.json["delta"]["step_details"]["tool_calls"]
    ]


async def test_code_is_shown_before_it_runs(api: Api, model: ScriptedModel, tool: EchoTool) -> None:
    shown = asyncio.Event()
    tool.then("1", shown)
    model.plays(*turn_of(TURNS[0]))
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    async with talk.streamed() as stream:
        while '"input":"print(1)"' not in stream.text:
            await stream.until("thread.run.step.delta")
        shown.set()
        text = await stream.rest()
    await assert_streamed_as_stored(talk, text)


async def test_calls_that_print_nothing_hold_nobody_up(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    tool.then("", "")
    model.plays(*turn_of(("code_interpreter", "code_interpreter", "no_such_function")))
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    pieces = pieces_of(await talk.transcript())
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1, 1, 2]
    assert [piece["id"] for piece in pieces if "id" in piece] == ["call_0", "call_1", "call_2"]


async def test_a_call_has_its_place_by_when_it_began(api: Api, model: ScriptedModel) -> None:
    model.plays(
        ToolCallOpened(2, "call_0", "code_interpreter"),
        ToolCallDelta(2, "print(0)"),
        ToolCallOpened(1, "call_1", "code_interpreter"),
        ToolCallDelta(1, "print"),
        ToolCallDelta(2, "\n"),
        ToolCallDelta(1, "(1)"),
        Finished("tool_calls", USAGE),
    )
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    text = await talk.transcript()
    await assert_streamed_as_stored(talk, text)
    (calls,) = streamed_calls(parsed_all(text)).values()
    inputs = [(one["id"], one["code_interpreter"]["input"]) for one in calls]
    assert inputs == [("call_0", "print(0)\n"), ("call_1", "print(1)")]


# Endings, and streams that are read later


@pytest.mark.parametrize("end", ["cancelled", "failed", "expired"])
async def test_calls_that_never_ran_are_shown_when_the_run_ends(
    api: Api, model: ScriptedModel, tool: EchoTool, clock: FrozenClock, end: str
) -> None:
    going = asyncio.Event()
    tool.then("1", ToolFailure("broken") if end == "failed" else going)
    model.plays(*turn_of(("code_interpreter", "code_interpreter", "code_interpreter", "weather")))
    talk = await api.talk(tools=TOOLS)
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        if end == "cancelled":
            await stream.until("thread.run.step.delta", 6)
            await talk.cancel(run.json)
        elif end == "expired":
            await stream.until("thread.run.step.delta", 6)
            clock.advance(600)
        text = await stream.rest()
    assert names(text)[-3:] == [f"thread.run.step.{end}", f"thread.run.{end}", "done"]
    await assert_streamed_as_stored(talk, text)


async def test_a_stream_that_is_taken_up_again_goes_on_with_the_same_calls(
    api: Api, client: AsyncOpenAI, model: ScriptedModel
) -> None:
    model.plays(*turn_of(TURNS[1]))
    model.says("Done.")
    talk = await api.talk(tools=TOOLS)
    whole = await talk.transcript()
    run = parsed_all(whole)[0].json["id"]
    for event in parsed_all(whole)[:-1]:
        assert whole.endswith(f"\nid: {event.id}\n\n" + await talk.events(run, event.id))
    assert without_repeats((await replayed(client, talk, run)).lines) == once_each(TURNS[1])


async def replayed(client: AsyncOpenAI, talk: Talk, run: str) -> Told:
    """What a handler is told by the events of a run that is over."""
    handler = Handler()
    request = client.get(
        f"{talk.run_path(run)}/events",
        cast_to=Run,
        stream=True,
        stream_cls=AsyncStream[AssistantStreamEvent],
    )
    async with AsyncAssistantStreamManager(request, event_handler=handler) as stream:
        await stream.until_done()
    return handler.told


@pytest.mark.parametrize("lost_at", [0, 1, 2])
async def test_a_lost_worker_s_calls_are_told_once(
    database_url: str,
    clock: FrozenClock,
    tool: EchoTool,
    models: ScriptedModels,
    model: ScriptedModel,
    lost_at: int,
) -> None:
    model.plays(*turn_of(TURNS[1]))
    model.says("Done.")
    dying = EchoTool()
    dying.then(*(f"print({number})" for number in range(lost_at)), asyncio.Event())
    async with (
        running_server(
            database_url, models, built_in={tool.name: tool}, clock=clock, with_worker=False
        ) as server,
        server.http() as http,
        server.openai() as client,
    ):
        talk = await Api(http).talk(tools=TOOLS)
        run = (await talk.run())["id"]
        async with doomed(server.database, models, {tool.name: dying}):
            while len(dying.calls) <= lost_at:
                dying.called.clear()
                await dying.called.wait()
        clock.advance(LEASE + 1)
        async with started(server.background):
            told = await replayed(client, talk, run)
        await assert_streamed_as_stored(talk, await talk.events(run))
    assert without_repeats(told.lines) == once_each(TURNS[1])
    assert [call.id for call in tool.calls] == [f"call_{n}" for n in range(lost_at, 3)]
