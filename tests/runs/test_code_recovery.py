"""Workers that are lost while code is written, runs, or is answered: the next one shows all of it once."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.runs.driver import CODE, Api, Json, Talk, names, parsed_all, parts_of, streamed_parts
from tests.runs.sandboxes import PNG, cell, content_of, kept, links_of
from tests.runs.workers import DyingDatabase, doomed, started, until_stored
from tests.support.server import Running, running_server
from threadloom.db.database import Database
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    TextDelta,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
)
from threadloom.runs.code_interpreter import CodeInterpreter
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox.session import Logs, Picture
from threadloom.testing import (
    EchoTool,
    FakeSandbox,
    FrozenClock,
    ScriptedModel,
    ScriptedModels,
    SequentialIds,
)
from threadloom.testing.model import USAGE
from threadloom.testing.sandbox import Writes

LEASE = 15
LINK = "sandbox:/mnt/data/out.csv"


@pytest.fixture
def ids() -> SequentialIds:
    return SequentialIds()


@pytest.fixture
async def server(
    database_url: str,
    models: ScriptedModels,
    clock: FrozenClock,
    ids: SequentialIds,
    sandbox: FakeSandbox,
) -> AsyncGenerator[Running]:
    """A server whose workers the test starts."""
    async with running_server(
        database_url, models, sandbox=sandbox, clock=clock, ids=ids, with_worker=False
    ) as running:
        yield running


@pytest.fixture
def api(http: httpx2.AsyncClient) -> Api:
    return Api(http)


class Drawer(ScriptedModel):
    """Draws and writes with code, then shows it: whatever was lost, it says the same again."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        self.requests.append(request)
        if any(isinstance(message, ToolMessage) for message in request.messages):
            yield TextDelta(LINK)
            yield TextDelta(" and ")
            yield TextDelta(LINK)
            yield Finished("stop", USAGE)
            return
        name, arguments = cell("plot()")
        yield ToolCallOpened(0, f"call_{len(self.requests)}", name)
        for letter in arguments:
            yield ToolCallDelta(0, letter)
        yield Finished("tool_calls", USAGE)


async def recovered(talk: Talk, run: str, server: Running, clock: FrozenClock) -> str:
    """The events of the run after another worker took it up and ended it."""
    clock.advance(LEASE + 1)
    async with started(server.background):
        await talk.rested(run)
        return await talk.events(run)


def own_tools(database: Database, server: Running, sandbox: FakeSandbox) -> BuiltInTools:
    """As the worker of another process has them."""
    settings = server.context.settings.code_interpreter
    tool = CodeInterpreter(database, server.context.blobs, sandbox, settings)
    return {"code_interpreter": tool}


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("reached", [False, True])
async def test_pictures_and_links_survive_a_workers_loss_at_any_commit(
    api: Api,
    server: Running,
    sandbox: FakeSandbox,
    clock: FrozenClock,
    ids: SequentialIds,
    models: ScriptedModels,
    database_url: str,
    at: int,
    reached: bool,
) -> None:
    models.model = Drawer()
    lost_with_it = FakeSandbox()
    for each in (sandbox, lost_with_it):
        each.then(Logs("42\n"), Picture("image/png", PNG), Writes("out.csv", b"a,b"))
    talk = await api.talk(tools=[CODE])
    run = (await talk.run())["id"]
    dying = DyingDatabase(database_url, clock=clock, ids=ids, at=at, reached=reached)
    async with doomed(dying, models, own_tools(dying, server, lost_with_it)):
        await dying.lost.wait()
    await dying.close()
    text = await recovered(talk, run, server, clock)
    assert names(text)[-2:] == ["thread.run.completed", "done"]
    message = (await talk.messages())[-1]
    assert parts_of(message) == streamed_parts(parsed_all(text))[message["id"]]
    await assert_shown_once(talk, message)
    assert await kept(server, talk) == {"out.csv": 3}
    (step,) = [one for one in await talk.steps(run) if is_done(one)]
    (call,) = step["step_details"]["tool_calls"]
    assert call["code_interpreter"]["input"] == "plot()"


async def assert_shown_once(talk: Talk, message: Json) -> None:
    """A picture, a link to a file twice, and no other File was made."""
    image, text = message["content"]
    picture, file = image["image_file"]["file_id"], links_of({"content": [text]})[0][1]
    assert links_of({"content": [text]}) == [(LINK, file)] * 2
    assert text["text"]["value"] == f"{LINK} and {LINK}"
    listed = (await talk.api.get("/files"))["data"]
    assert {one["id"] for one in listed} == {picture, file}
    assert await content_of(talk.api, picture) == PNG
    assert await content_of(talk.api, file) == b"a,b"


def is_done(step: Json) -> bool:
    return step["status"] == "completed" and step["type"] == "tool_calls"


async def test_code_that_was_half_written_is_written_anew(
    api: Api,
    server: Running,
    sandbox: FakeSandbox,
    clock: FrozenClock,
    model: ScriptedModel,
    models: ScriptedModels,
) -> None:
    model.plays(
        ToolCallOpened(0, "call_lost", "code_interpreter"),
        ToolCallDelta(0, "print("),
        asyncio.Event(),
    )
    model.calls(cell("draw()"))
    model.says("Done.")
    talk = await api.talk(tools=[CODE])
    tools = own_tools(server.database, server, sandbox)
    async with talk.streamed() as stream:
        async with doomed(server.database, models, tools, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await stream.until("thread.run.step.delta", 2)
            await until_stored(server.database, run, "thread.run.step.delta")
        text = await recovered(talk, run, server, clock)
    assert names(text)[-2:] == ["thread.run.completed", "done"]
    assert [one.code for one in sandbox.cells] == ["draw()"]
    lost, done, _ = await talk.steps(run)
    assert (lost["status"], lost["step_details"]["tool_calls"]) == ("failed", [])
    assert done["step_details"]["tool_calls"][0]["code_interpreter"]["input"] == "draw()"


async def test_code_that_ran_when_its_worker_was_lost_is_not_streamed_again(
    api: Api,
    server: Running,
    sandbox: FakeSandbox,
    clock: FrozenClock,
    model: ScriptedModel,
    models: ScriptedModels,
) -> None:
    model.calls(cell("draw()"))
    model.says("Done.")
    tool = EchoTool()
    tool.then(asyncio.Event())
    sandbox.then(Picture("image/png", PNG))
    talk = await api.talk(tools=[CODE])
    async with talk.streamed() as stream:
        async with doomed(server.database, models, {tool.name: tool}, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await tool.called.wait()
        text = await recovered(talk, run, server, clock)
    assert len(model.requests) == 2
    (step, _) = await talk.steps(run)
    (call,) = step["step_details"]["tool_calls"]
    (output,) = call["code_interpreter"]["outputs"]
    assert call["code_interpreter"]["input"] == "draw()"
    assert names(text).count("thread.run.step.delta") == 3
    assert parts_of((await talk.messages())[-1]) == [output["image"]["file_id"], "Done."]


async def test_a_message_that_was_lost_after_its_pictures_shows_them_again(
    api: Api,
    server: Running,
    sandbox: FakeSandbox,
    clock: FrozenClock,
    model: ScriptedModel,
    models: ScriptedModels,
) -> None:
    model.calls(cell("draw()"))
    model.plays("So", asyncio.Event())
    model.says("Done.")
    sandbox.then(Picture("image/png", PNG))
    talk = await api.talk(tools=[CODE])
    tools = own_tools(server.database, server, sandbox)
    async with talk.streamed() as stream:
        async with doomed(server.database, models, tools, feed=server.context.feed):
            run = (await stream.until("thread.run.created")).json["id"]
            await stream.until("thread.message.delta", 2)
            await until_stored(server.database, run, "thread.message.delta")
        text = await recovered(talk, run, server, clock)
    (cut,) = [one.json for one in parsed_all(text) if one.name == "thread.message.incomplete"]
    picture, *_ = parts_of(cut)
    assert picture.startswith("file-")
    assert (await talk.messages())[-1]["id"] != cut["id"]
    assert [parts_of(one) for one in (await talk.messages())[1:]] == [[picture, "Done."]]
