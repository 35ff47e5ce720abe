"""Code in several workers: one goes on with what another has kept, and none with what is past."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.runs.driver import Api, Talk
from tests.runs.sandboxes import TABLE, cell, coding, heard, run_cell, upload
from tests.runs.workers import doomed, started
from tests.support.server import Running, running_server
from threadloom.config import CodeInterpreter as Settings
from threadloom.llm.chat import Finished, ToolCallDelta, ToolCallOpened
from threadloom.runs.code_interpreter import CodeInterpreter
from threadloom.runs.code_outcome import STARTED_ANEW
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox.session import SandboxUnavailable
from threadloom.testing import FakeSandbox, FrozenClock, ScriptedModel, ScriptedModels
from threadloom.testing.sandbox import Writes

LEASE = 16


@pytest.fixture
async def server(
    database_url: str, models: ScriptedModels, clock: FrozenClock, sandbox: FakeSandbox
) -> AsyncGenerator[Running]:
    """A server whose worker the test starts."""
    async with running_server(
        database_url, models, clock=clock, sandbox=sandbox, with_worker=False
    ) as running:
        yield running


@pytest.fixture
def api(http: httpx2.AsyncClient) -> Api:
    return Api(http)


def with_code(
    server: Running, sandbox: FakeSandbox, settings: Settings | None = None
) -> BuiltInTools:
    """The tools of one more worker."""
    context = server.context
    tool = CodeInterpreter(context.database, context.blobs, sandbox, settings or Settings())
    return {"code_interpreter": tool}


async def test_a_lost_worker_s_call_is_made_again_with_the_files(
    api: Api,
    server: Running,
    models: ScriptedModels,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    clock: FrozenClock,
) -> None:
    lost = FakeSandbox()
    lost.then(Writes("out.csv", b"first"))
    lost.then(Writes("lost.csv", b"second"), asyncio.Event())
    model.calls(cell("1"))
    model.calls(cell("2"))
    model.says("Done.")
    talk = await coding(api, await upload(api))
    async with doomed(server.database, models, with_code(server, lost)):
        run = await talk.run()
        while len(lost.cells) < 2:
            lost.began.clear()
            await lost.began.wait()
    clock.advance(LEASE)
    async with started(server.background):
        assert (await talk.rested(run))["status"] == "completed"
        assert [one.code for one in sandbox.cells] == ["2"]
        assert sandbox.content(talk.thread) == {"sales.csv": TABLE, "out.csv": b"first"}
    assert STARTED_ANEW in heard(model)


async def test_a_worker_does_not_go_back_to_what_another_has_passed(
    api: Api, server: Running, models: ScriptedModels, model: ScriptedModel
) -> None:
    sandboxes = FakeSandbox(), FakeSandbox()
    workers = [with_code(server, each) for each in sandboxes]
    talk = await coding(api)
    told: list[bool] = []
    for turn in (0, 0, 1, 0):
        sandboxes[turn].then(Writes("out.csv", str(len(told)).encode()))
        told.append(await anew(talk, server, models, model, workers[turn]))
    assert told == [False, False, True, True]
    assert sandboxes[0].content(talk.thread) == {"out.csv": b"3"}


async def test_a_provider_may_count_calls_anew_in_each_turn(
    api: Api, server: Running, models: ScriptedModels, model: ScriptedModel
) -> None:
    sandboxes = FakeSandbox(), FakeSandbox()
    workers = [with_code(server, each) for each in sandboxes]
    talk = await coding(api)
    told: list[bool] = []
    for turn in (0, 1, 0):
        model.plays(
            ToolCallOpened(0, "call_0", "code_interpreter"),
            ToolCallDelta(0, '{"code": "1 + 1"}'),
            Finished("tool_calls"),
        )
        model.says("Done.")
        async with doomed(server.database, models, workers[turn]):
            await talk.ask()
        told.append(STARTED_ANEW in heard(model))
    assert told == [False, True, True]


async def test_workers_share_what_a_runner_holds(
    api: Api, server: Running, models: ScriptedModels, model: ScriptedModel
) -> None:
    runner = FakeSandbox()
    settings = Settings.model_validate({"runner": {"url": "tcp://127.0.0.1:1"}})
    workers = [with_code(server, runner, settings) for _ in range(2)]
    talk = await coding(api, await upload(api))
    runner.then(Writes("sales.csv", b"changed"))
    told = [await anew(talk, server, models, model, workers[turn]) for turn in (0, 1, 0)]
    assert told == [False, False, False]
    assert runner.content(talk.thread) == {"sales.csv": b"changed"}


async def anew(
    talk: Talk,
    server: Running,
    models: ScriptedModels,
    model: ScriptedModel,
    tools: BuiltInTools,
) -> bool:
    """Whether the model hears that the sandbox was started anew, when a worker with these tools runs a cell."""
    async with doomed(server.database, models, tools):
        await run_cell(talk, model)
    return STARTED_ANEW in heard(model)


class Away(FakeSandbox):
    """A runner that does not answer."""

    async def keys(self) -> Sequence[str]:
        raise SandboxUnavailable("The runner does not answer.")


async def test_a_runner_that_is_away_is_logged_once(
    database_url: str, models: ScriptedModels
) -> None:
    with capture_logs() as logs:
        async with running_server(database_url, models, sandbox=Away()) as server:
            while not logs:
                await server.database.read(lambda _: None)
            await server.background.sweep()
    said = [(one["event"], one["reason"]) for one in logs]
    assert said == [("code cannot be run", "The runner does not answer.")]
