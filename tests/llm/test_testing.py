"""The stand-ins that we ship do what their users rely on."""

import asyncio
import sys

import httpx2
import pytest

from tests.llm.conftest import Remote
from tests.llm.conversation import WEATHER, ask, called, ending, events, failure, first, text
from threadloom.llm.chat import (
    AssistantMessage,
    ChatRequest,
    Finished,
    ModelError,
    RefusalDelta,
    TextDelta,
    ToolCall,
    ToolMessage,
    Usage,
)
from threadloom.testing import (
    FrozenClock,
    ScriptedModel,
    ScriptedModels,
    ScriptExhausted,
    SequentialIds,
)
from threadloom.testing.upstream import Upstream


def test_the_clock_moves_only_when_told() -> None:
    clock = FrozenClock(100.0)
    clock.advance(2.5)
    assert clock.now() == 102.5


def test_ids_count_for_each_prefix() -> None:
    ids = SequentialIds()
    assert [ids.new("run_"), ids.new("msg_"), ids.new("run_")] == [
        "run_000000000000000000000001",
        "msg_000000000000000000000001",
        "run_000000000000000000000002",
    ]


async def test_turns_are_played_in_order_and_requests_kept() -> None:
    model = ScriptedModel()
    model.says("Hel", "lo", reason="length", usage=Usage(1, 2))
    model.refuses("No.")
    assert await events(model, ask("a")) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished("length", Usage(1, 2)),
    ]
    assert (await events(model, ask("b")))[0] == RefusalDelta("No.")
    assert model.requests == [ask("a"), ask("b")]
    assert model.remaining == 0


async def test_text_may_come_before_calls() -> None:
    model = ScriptedModel()
    model.says_then_calls(["Let me see."], ("f", "{}"), ("g", ""))
    seen = await events(model, ask("Hi"))
    assert seen[0] == TextDelta("Let me see.")
    assert [(call.name, call.arguments) for call in called(seen)] == [("f", "{}"), ("g", "")]
    assert ending(seen).reason == "tool_calls"


async def test_a_scripted_failure_comes_after_its_text() -> None:
    model = ScriptedModel()
    model.fails("rate_limit_exceeded", "Slow down", after=["Hel"])
    error = await failure(model, ask("Hi"))
    assert (error.code, error.message) == ("rate_limit_exceeded", "Slow down")


async def test_a_turn_waits_until_it_is_let_go() -> None:
    model, gate = ScriptedModel(), asyncio.Event()
    model.waits(gate, "Hello")
    waiting = asyncio.create_task(text(model, ask("Hi")))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    assert await waiting == "Hello"


async def test_a_call_too_many_is_an_assertion() -> None:
    with pytest.raises(ScriptExhausted, match="Call 1 of the model was not scripted"):
        await first(ScriptedModel(), ask("Hi"))


async def test_one_model_answers_all_names_but_the_unknown() -> None:
    models = ScriptedModels(ScriptedModel(), context_window=10, unknown=["nope"])
    assert models.resolve("x").context_window == 10
    with pytest.raises(ModelError, match="The model 'nope' does not exist"):
        models.resolve("nope")


async def test_the_upstream_counts_calls_and_lists_models(
    remote: Remote, upstream: Upstream, http: httpx2.AsyncClient
) -> None:
    await events(remote(), ask("Hi"))
    root = upstream.base_url.removesuffix("/v1")
    assert (await http.get(f"{root}/calls")).json() == {"Hi": 1}
    assert (await http.get(f"{root}/v1/models")).json()["data"][0]["id"] == "scripted"
    assert (await http.get(f"{root}/nowhere")).status_code == 404


async def test_the_upstream_quotes_a_tools_output(remote: Remote) -> None:
    call = ToolCall("call_1", "get_weather", "{}")
    messages = (
        *ask("[[tool:get_weather]]").messages,
        AssistantMessage("", (call,)),
        ToolMessage("call_1", "sunny"),
    )
    request = ChatRequest("m", messages, tools=(WEATHER,))
    assert await text(remote(), request) == "The tool answered: sunny"


async def test_the_upstream_sends_so_many_tokens(remote: Remote) -> None:
    assert len(await events(remote(), ask("[[tokens:300]]"))) == 301
    assert len(await events(remote(), ask("[[tokens:0]]"))) == 1


async def test_the_upstream_delays(remote: Remote) -> None:
    assert await text(remote(), ask("[[delay:0.01]] [[text:Hello]]")) == "Hello"


async def test_the_upstream_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "threadloom.testing.upstream", "--tokens", "2"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{address}/models")).status_code == 200
    process.terminate()
    await process.wait()
