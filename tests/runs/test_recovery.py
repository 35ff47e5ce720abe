"""Workers that are lost in each state of a run: the next one ends it, and nothing is done or shown twice."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest
from sqlalchemy import select

from tests.runs.driver import (
    CODE,
    FUNCTION,
    Api,
    Json,
    Talk,
    calls_of,
    names,
    parsed_all,
    parts_of,
    streamed_calls,
    streamed_parts,
)
from tests.runs.workers import DyingDatabase, doomed, started, until_stored
from tests.support.server import Running, running_server
from threadloom.db.rows import RunStepRow
from threadloom.db.tx import Tx
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    TextDelta,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
)
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels, SequentialIds
from threadloom.testing.model import USAGE

LEASE = 15
PICTURES = ("file-1", "file-2", "file-3")


class Looker(ScriptedModel):
    """Looks twice with a tool, then answers: whatever was lost, it says the same again."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        self.requests.append(request)
        if any(isinstance(message, ToolMessage) for message in request.messages):
            yield TextDelta("The ")
            yield TextDelta("answer.")
            yield Finished("stop", USAGE)
            return
        yield TextDelta("Let me see.")
        for index in (0, 1):
            name = f"call_{len(self.requests)}_{index}"
            yield ToolCallOpened(index, name, "code_interpreter")
            yield ToolCallDelta(index, str(index))
        yield Finished("tool_calls", USAGE)


@pytest.fixture
def ids() -> SequentialIds:
    return SequentialIds()


@pytest.fixture
async def server(
    database_url: str,
    models: ScriptedModels,
    clock: FrozenClock,
    tool: EchoTool,
    ids: SequentialIds,
) -> AsyncGenerator[Running]:
    """A server whose worker the test starts."""
    async with running_server(
        database_url,
        models,
        built_in={tool.name: tool},
        clock=clock,
        ids=ids,
        with_worker=False,
    ) as running:
        yield running


@pytest.fixture
def api(http: httpx2.AsyncClient) -> Api:
    return Api(http)


async def recovered(talk: Talk, run: str, server: Running, clock: FrozenClock) -> str:
    """The events of the run after another worker took it up and ended it."""
    clock.advance(LEASE + 1)
    async with started(server.background):
        await talk.rested(run)
        return await talk.events(run)


@pytest.mark.parametrize("at", range(1, 12))
@pytest.mark.parametrize("reached", [False, True])
async def test_a_run_survives_its_workers_loss_at_any_commit(
    api: Api,
    server: Running,
    clock: FrozenClock,
    ids: SequentialIds,
    tool: EchoTool,
    models: ScriptedModels,
    database_url: str,
    at: int,
    reached: bool,
) -> None:
    models.model = Looker()
    tool.then(*([picture(name)] for name in PICTURES))
    talk = await api.talk(tools=[CODE])
    run = (await talk.run())["id"]
    dying = DyingDatabase(database_url, clock=clock, ids=ids, at=at, reached=reached)
    async with doomed(dying, models, {tool.name: tool}):
        await dying.lost.wait()
    await dying.close()
    finished, asked = await server.database.read(finished_calls, run), len(tool.calls)
    text = await recovered(talk, run, server, clock)
    assert names(text)[-2:] == ["thread.run.completed", "done"]
    assert await talk.said() == ["Hi", "Let me see.", "The answer."]
    assert finished.isdisjoint(call.id for call in tool.calls[asked:])
    assert len(tool.calls) <= 3
    steps = await talk.steps(run)
    shown = [one for step in steps for call in calls_of(step) for one in pictures_of(call)]
    assert parts_of((await talk.messages())[-1]) == [*shown, "The answer."]
    assert len(shown) == 2
    await assert_nothing_is_open(talk, run, text)


def picture(file_id: str) -> Json:
    return {"type": "image", "image": {"file_id": file_id}}


def pictures_of(call: Json) -> list[str]:
    outputs = call["code_interpreter"]["outputs"]
    return [output["image"]["file_id"] for output in outputs]


def finished_calls(tx: Tx, run_id: str) -> set[str]:
    """The calls whose results are in the journal."""
    steps = tx.session.scalars(select(RunStepRow).where(RunStepRow.run_id == run_id))
    return {call_id for step in steps for call_id in step.heard}


async def assert_nothing_is_open(talk: Talk, run: str, text: str) -> None:
    """Each message is that of one completed step, and the stream is what is stored."""
    steps = await talk.steps(run)
    assert {step["status"] for step in steps} <= {"completed", "failed"}
    written = {
        step["step_details"]["message_creation"]["message_id"]
        for step in steps
        if step["type"] == "message_creation" and step["status"] == "completed"
    }
    streamed = streamed_parts(parsed_all(text))
    for message in (await talk.messages())[1:]:
        assert message["id"] in written
        assert parts_of(message) == streamed[message["id"]]
    calls = streamed_calls(parsed_all(text))
    for step in steps:
        if step["status"] == "completed" and calls_of(step):
            assert calls[step["id"]] == calls_of(step)


async def test_a_half_written_answer_is_withdrawn(
    api: Api, server: Running, clock: FrozenClock, model: ScriptedModel, models: ScriptedModels
) -> None:
    model.plays("Hel", asyncio.Event())
    model.says("Hello")
    talk = await api.talk()
    async with talk.streamed() as stream:
        async with doomed(server.database, models, {}, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            lost = (await stream.until("thread.message.delta")).json["id"]
            await until_stored(server.database, run, "thread.message.delta")
        text = await recovered(talk, run, server, clock)
    assert "thread.message.incomplete" in names(text)
    assert await talk.said() == ["Hi", "Hello"]
    assert (await api.call("GET", f"{talk.path}/messages/{lost}")).status_code == 404
    failed, done = await talk.steps(run)
    assert (failed["status"], done["status"]) == ("failed", "completed")
    assert failed["last_error"]["code"] == "server_error"
    assert (await api.get(talk.run_path(run)))["last_error"] is None


async def test_calls_of_the_client_are_asked_for_once(
    api: Api,
    server: Running,
    clock: FrozenClock,
    model: ScriptedModel,
    models: ScriptedModels,
    tool: EchoTool,
) -> None:
    model.calls(("weather", "{}"), ("code_interpreter", "1"))
    tool.then(asyncio.Event())
    talk = await api.talk(tools=[CODE, FUNCTION])
    async with talk.streamed() as stream:
        async with doomed(server.database, models, {tool.name: tool}, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await stream.until("thread.run.step.delta", 3)
            await tool.called.wait()
        text = await recovered(talk, run, server, clock)
    assert names(text)[-2:] == ["thread.run.requires_action", "done"]
    assert len(model.requests) == 1
    assert [call.arguments for call in tool.calls] == ["1", "1"]


async def test_a_cancelled_run_of_a_lost_worker_is_closed(
    api: Api, server: Running, clock: FrozenClock, model: ScriptedModel, models: ScriptedModels
) -> None:
    model.plays("Hel", asyncio.Event())
    talk = await api.talk()
    async with talk.streamed() as stream:
        async with doomed(server.database, models, {}, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await until_stored(server.database, run, "thread.message.delta")
        await talk.cancel(run)
        text = await recovered(talk, run, server, clock)
    assert names(text)[-5:] == [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    assert len(model.requests) == 1


async def test_a_run_whose_worker_was_lost_too_long_expires(
    api: Api, server: Running, clock: FrozenClock, model: ScriptedModel, models: ScriptedModels
) -> None:
    model.plays("Hel", asyncio.Event())
    talk = await api.talk()
    async with talk.streamed() as stream:
        async with doomed(server.database, models, {}, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await until_stored(server.database, run, "thread.message.delta")
        clock.advance(600)
        text = await recovered(talk, run, server, clock)
    assert names(text)[-2:] == ["thread.run.expired", "done"]
