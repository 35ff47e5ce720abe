"""The GGUF path with a real, small model; the first run fetches it."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.llm.conversation import ask, ending, events, failure, first, said, text, written
from threadloom.config import ModelCalls
from threadloom.llm.chat import (
    AssistantMessage,
    ChatRequest,
    ImagePart,
    SystemMessage,
    TextPart,
    UserMessage,
)
from threadloom.llm.local import EXTRA, LocalModel
from threadloom.llm.wire import Json
from threadloom.testing import SequentialIds
from tools.fetch_smollm2 import fetch


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(fetch(), calls=ModelCalls(), ids=SequentialIds(), context_window=512)


async def test_it_streams_and_counts(model: LocalModel) -> None:
    seen = await events(model, ask("Say hello.", max_completion_tokens=8, temperature=0.0))
    assert len(seen) > 3
    assert ending(seen).reason in ("stop", "length")
    assert (usage := ending(seen).usage) is not None
    assert 0 < usage.completion_tokens <= 8


async def test_it_keeps_the_limit(model: LocalModel) -> None:
    seen = await events(model, ask("Count to one hundred.", max_completion_tokens=3))
    assert ending(seen).reason == "length"


async def test_it_is_told_the_whole_conversation(model: LocalModel) -> None:
    messages = (
        SystemMessage("Be brief."),
        said("Hi"),
        AssistantMessage("Hello there, how are you?"),
        said("Bye"),
    )
    short = ending(await events(model, ask("Bye", max_completion_tokens=1))).usage
    long = ending(await events(model, ChatRequest("m", messages, max_completion_tokens=1))).usage
    assert short is not None
    assert long is not None
    assert long.prompt_tokens > short.prompt_tokens


async def test_it_is_told_of_pictures_in_words(model: LocalModel) -> None:
    plain = (UserMessage((TextPart("Look"),)),)
    picture = (UserMessage((TextPart("Look"), ImagePart("data:image/png;base64,AA"))),)
    without, with_one = [
        ending(await events(model, ChatRequest("m", messages, max_completion_tokens=1))).usage
        for messages in (plain, picture)
    ]
    assert without is not None
    assert with_one is not None
    assert with_one.prompt_tokens > without.prompt_tokens + 3


async def test_a_schema_binds_it(model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await text(model, ask("JSON", response_format=wanted, max_completion_tokens=40))
    assert '"a"' in answer


async def test_the_loop_stays_free(model: LocalModel) -> None:
    generating = asyncio.create_task(events(model, ask("Tell a story.", max_completion_tokens=30)))
    turns = 0
    while not generating.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


async def test_leaving_early_stops_the_generation(model: LocalModel) -> None:
    assert await first(model, ask("Tell a very long story.", max_completion_tokens=4000))
    async with asyncio.timeout(20):
        assert written(await events(model, ask("Say hello.", max_completion_tokens=4)))


async def test_a_prompt_that_does_not_fit_is_the_callers_to_shorten(model: LocalModel) -> None:
    error = await failure(model, ask("word " * 2000))
    assert error.code == "invalid_prompt"
    assert "too long" in error.message


async def test_a_file_that_is_no_model_is_a_server_error(tmp_path: Path) -> None:
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"not a model")
    error = await failure(LocalModel(fake, calls=ModelCalls(), ids=SequentialIds()), ask("Hi"))
    assert (error.code, error.message) == ("server_error", "Sorry, something went wrong.")


@pytest.mark.parametrize("fault", [ImportError, OSError, MemoryError])
async def test_an_engine_that_cannot_start_is_a_server_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def server(parameters: object) -> None:
        raise fault

    model = LocalModel(file, calls=ModelCalls(), ids=SequentialIds())
    monkeypatch.setitem(sys.modules, EXTRA, engine_of(server))
    async with asyncio.timeout(10):
        error = await failure(model, ask("Hi"))
    assert (error.code, error.message) == ("server_error", "Sorry, something went wrong.")


@pytest.mark.parametrize("limit", ["first_token_timeout", "idle_timeout"])
async def test_an_engine_that_falls_silent_is_a_server_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    over = threading.Event()

    class Silent:
        def __init__(self, parameters: object) -> None:
            pass

        def handle_chat_completions(self, request: Json, callback: Callable[[Json], bool]) -> None:
            if limit == "idle_timeout":
                callback({"choices": [{"delta": {"role": "assistant", "content": "Hel"}}]})
            over.wait()

    calls = ModelCalls.model_validate({limit: 0.1})
    model = LocalModel(file, calls=calls, ids=SequentialIds())
    monkeypatch.setitem(sys.modules, EXTRA, engine_of(Silent))
    try:
        async with asyncio.timeout(10):
            error = await failure(model, ask("Hi"))
    finally:
        over.set()
    assert (error.code, error.message) == ("server_error", "Sorry, something went wrong.")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"a model")
    return path


def engine_of(server: Callable[[object], object]) -> Any:
    """The package, with another engine."""
    parts = {part: SimpleNamespace() for part in ("model", "cpuparams", "cpuparams_batch")}
    return SimpleNamespace(CommonParams=lambda: SimpleNamespace(**parts), Server=server)
