"""`threadloom models`, with a scripted provider in the place of a real one."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.commands.running import Commands
from threadloom.testing.upstream import DONE, Answer, Upstream, error_answer, frame

ALIASES = {"gpt-4o": "large", "gpt-*": "small"}
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
COUNTED = [{"content": "one, two, three, "}, {"content": "four, five, six, seven"}]


def streamed(*deltas: dict[str, Any], reason: str = "stop") -> Answer:
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    end: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": reason}
    frames = [frame({"choices": [choice]}) for choice in (*choices, end)]
    return Answer(chunks=(*frames, DONE))


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    async with Upstream(models=("large", "small")) as upstream:
        yield upstream


@pytest.fixture
def threadloom(upstream: Upstream, tmp_path: Path) -> Commands:
    return Commands(
        {
            "THREADLOOM_DATA_DIR": str(tmp_path),
            "THREADLOOM_UPSTREAM__BASE_URL": upstream.base_url,
            "THREADLOOM_ALIASES": orjson.dumps(ALIASES).decode(),
        }
    )


async def test_every_name_is_listed_with_who_answers(threadloom: Commands) -> None:
    found = await threadloom.json("models", "list")
    assert [(one["name"], one["kind"], one["model"]) for one in found] == [
        ("large", "model", "large"),
        ("small", "model", "small"),
        ("gpt-4o", "alias", "large"),
        ("gpt-*", "alias", "small"),
        ("*", "any other", None),
    ]
    assert {one["provider"] for one in found} == {"upstream"}
    lines = (await threadloom.run("models", "list")).splitlines()
    assert lines[3].split() == ["gpt-4o", "alias", "large", "upstream", "128000"]


async def test_an_alias_that_leads_nowhere_is_told(alone: Commands, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(
        "aliases: {lost: nowhere}\n"
        "providers: [{name: farm, base_url: 'http://127.0.0.1:9/v1', models: {bee: {context_window: 4096}}}]\n"
    )
    named, lost = await alone.json("models", "list", "--config", str(config))
    assert (named["name"], named["provider"], named["context_window"]) == ("bee", "farm", 4096)
    assert (lost["name"], lost["provider"]) == ("lost", None)
    assert "'nowhere', which no provider has" in lost["problem"]


async def test_without_a_provider_the_demonstration_answers_every_name(alone: Commands) -> None:
    names = await alone.json("models", "list")
    assert [one["name"] for one in names] == ["threadloom-embedded", "*"]
    assert {one["model"] for one in names} == {"threadloom-embedded"}
    (tried,) = await alone.json("models", "test")
    assert (tried["answers"], tried["streams"], tried["calls_functions"]) == (True, True, True)


async def test_a_model_that_does_all_is_said_to(threadloom: Commands, upstream: Upstream) -> None:
    upstream.answers(streamed(*COUNTED), streamed({"tool_calls": [CALL]}, reason="tool_calls"))
    (tried,) = await threadloom.json("models", "test", "gpt-4o")
    assert (tried["name"], tried["model"], tried["provider"]) == ("gpt-4o", "large", "upstream")
    assert (tried["answers"], tried["streams"], tried["calls_functions"]) == (True, True, True)
    assert tried["seconds"] >= tried["first_token_seconds"] > 0


async def test_what_a_model_cannot_do_ends_with_1(threadloom: Commands, upstream: Upstream) -> None:
    one_piece = {"content": "".join(piece["content"] for piece in COUNTED)}
    upstream.answers(streamed(one_piece), streamed({"content": "It rains."}))
    ended = await threadloom.result("models", "test", "large")
    assert ended.exit_code == 1
    (_, line) = ended.stdout.splitlines()
    assert line.split()[:6] == ["large", "large", "upstream", "yes", "no", "no"]


async def test_a_model_that_does_not_answer_is_told_with_its_reason(
    threadloom: Commands, upstream: Upstream
) -> None:
    upstream.answers(error_answer(401, {"message": "Incorrect API key."}))
    ended = await threadloom.result("models", "test", "large", "--json")
    assert ended.exit_code == 1
    (tried,) = orjson.loads(ended.stdout)
    assert (tried["answers"], tried["streams"]) == (False, None)
    assert "does not accept this server's key" in tried["problem"]
    assert "Incorrect API key" not in ended.output, "it may quote the key"


async def test_what_is_configured_is_tried_and_each_model_once(
    threadloom: Commands, upstream: Upstream
) -> None:
    ended = await threadloom.result("models", "test", "--json")
    tried = orjson.loads(ended.stdout)
    assert [(one["name"], one["model"]) for one in tried] == [("gpt-4o", "large"), ("small", "small")]  # fmt: skip
    assert {request["model"] for request in upstream.requests} == {"large", "small"}


async def test_models_of_a_large_provider_are_to_be_named(
    threadloom: Commands, upstream: Upstream
) -> None:
    upstream.models = tuple(f"model-{number}" for number in range(6))
    plain = Commands(threadloom.variables | {"THREADLOOM_ALIASES": "{}"})
    assert await plain.refused("models", "test") == "6 models are listed: name those to try."
    upstream.models = ()
    assert await plain.refused("models", "test") == (
        "No provider lists its models: name those to try."
    )
    assert upstream.requests == []
