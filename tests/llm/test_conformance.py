"""What every ChatModel does, whoever answers."""

from collections.abc import Callable

import pytest

from tests.llm.conftest import Remote
from tests.llm.conversation import WEATHER, ask, calls, ending, events, first, text
from threadloom.llm.chat import ChatModel, NamedTool
from threadloom.llm.embedded import EmbeddedModel
from threadloom.testing import ScriptedModel, SequentialIds
from threadloom.testing.upstream import Upstream

TALK = "Good morning [[text:Hello there]]"
CALL = 'Weather in Paris [[tool:get_weather {"city":"Paris"}]]'


def scripted() -> ScriptedModel:
    model = ScriptedModel()
    model.says("Hel", "lo")
    return model


def scripted_call() -> ScriptedModel:
    model = ScriptedModel()
    model.calls(("get_weather", '{"city":"Paris"}'))
    return model


@pytest.fixture(params=["remote", "embedded", "scripted"])
def model(request: pytest.FixtureRequest, upstream: Upstream, remote: Remote) -> ChatModel:
    return {"remote": remote, "embedded": embedded, "scripted": scripted}[request.param]()


@pytest.fixture(params=["remote", "embedded", "scripted"])
def calling(request: pytest.FixtureRequest, upstream: Upstream, remote: Remote) -> ChatModel:
    makers: dict[str, Callable[[], ChatModel]] = {
        "remote": remote,
        "embedded": embedded,
        "scripted": scripted_call,
    }
    return makers[request.param]()


def embedded() -> EmbeddedModel:
    return EmbeddedModel(SequentialIds())


async def test_it_streams_text_in_pieces_and_finishes(model: ChatModel) -> None:
    seen = await events(model, ask(TALK))
    assert len(seen) > 2
    assert ending(seen).reason == "stop"


async def test_it_counts_tokens(model: ChatModel) -> None:
    usage = ending(await events(model, ask(TALK))).usage
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0


async def test_it_can_be_left_early(model: ChatModel) -> None:
    assert await first(model, ask(TALK))


async def test_it_calls_functions(calling: ChatModel) -> None:
    request = ask(CALL, tools=(WEATHER,), tool_choice=NamedTool("get_weather"))
    (call,) = await calls(calling, request)
    assert call.id.startswith("call_")
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')


async def test_a_turn_with_calls_says_so_at_its_end(calling: ChatModel) -> None:
    assert ending(await events(calling, ask(CALL, tools=(WEATHER,)))).reason == "tool_calls"


async def test_text_is_the_concatenation_of_the_pieces(remote: Remote) -> None:
    assert await text(remote(), ask(TALK)) == "Hello there"
