"""`threadloom runs`."""

import asyncio
import signal
from asyncio.subprocess import Process

import httpx2
import orjson

from tests.api.wire import get, make_run, post, run_to_end
from tests.commands.running import Commands
from tests.faults.processes import until
from threadloom.testing import ScriptedModel

START = 20
"""Seconds that a process may take to start."""
WEATHER = [{"type": "function", "function": {"name": "weather"}}]


async def next_line(process: Process) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), START)


async def test_a_run_is_shown_with_its_steps(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    steps = (await get(http, f"{path}/steps"))["data"]
    shown = await threadloom.json("runs", "show", run["id"])
    assert shown == run | {"steps": steps}
    told = await threadloom.run("runs", "show", run["id"])
    assert all(part in told for part in (steps[0]["id"], "completed", '"total_tokens":15'))
    page = await threadloom.json("runs", "list", "--status", "completed")
    assert page["data"] == [run]
    assert (await threadloom.json("runs", "list", "--status", "failed"))["data"] == []
    (_, line) = (await threadloom.run("runs", "list", "--thread", run["thread_id"])).splitlines()
    assert line.split()[:3] == [run["id"], "completed", run["thread_id"]]


async def test_why_a_run_failed_is_shown(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.fails("server_error", "The provider is away.")
    run = await run_to_end(http)
    assert "The provider is away." in await threadloom.run("runs", "show", run["id"])
    assert "server_error" in await threadloom.run("runs", "list")
    watched = await threadloom.run("runs", "watch", run["id"])
    assert "thread.run.failed" in watched
    assert "The provider is away." in watched


async def test_a_run_is_watched_while_another_process_drives_it(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("weather", "{}"))
    model.says("It ", "rains.")
    run = await make_run(http, tools=WEATHER)
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    watching = await threadloom.process("runs", "watch", run["id"], "--json")
    first = await next_line(watching)

    async def waits() -> bool:
        return (await get(http, path))["status"] == "requires_action"

    await until(waits, "it calls")
    (call,) = (await get(http, path))["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "rain"}]}
    await post(http, f"{path}/submit_tool_outputs", outputs)
    rest, problems = await watching.communicate()
    assert (watching.returncode, problems) == (0, b"")
    told = [orjson.loads(line) for line in (first + rest).splitlines()]
    names = [one["event"] for one in told]
    assert names[0] == "thread.run.created"
    assert names.count("thread.run.requires_action") == 1
    assert names[-1] == "thread.run.completed"
    assert len({one["id"] for one in told}) == len(told)
    printed = await threadloom.run("runs", "watch", run["id"])
    assert "It rains." in printed.splitlines()
    assert printed.endswith(f"{run['id']} is completed.")


async def test_a_run_is_cancelled(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    never = asyncio.Event()
    model.waits(never, "Hello")
    run = await make_run(http)
    watching = await threadloom.process("runs", "watch", run["id"])
    await next_line(watching)
    told = await threadloom.run("runs", "cancel", run["id"])
    assert told == f"{run['id']} is cancelling."
    rest, _ = await watching.communicate()
    assert rest.decode().endswith(f"{run['id']} is cancelled.\n")
    assert watching.returncode == 0
    again = await threadloom.refused("runs", "cancel", run["id"])
    assert again == "Cannot cancel run with status 'cancelled'."


async def test_watching_is_interrupted_and_the_run_goes_on(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    answering = asyncio.Event()
    model.waits(answering, "Hello")
    run = await make_run(http)
    watching = await threadloom.process("runs", "watch", run["id"])
    await next_line(watching)
    watching.send_signal(signal.SIGINT)
    _, problems = await watching.communicate()
    assert watching.returncode == 130
    assert b"Traceback" not in problems
    answering.set()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    await http.get(f"{path}/events")
    assert (await get(http, path))["status"] == "completed"


async def test_unknown_runs_are_told(alone: Commands) -> None:
    for command in ("show", "watch", "cancel"):
        assert await alone.refused("runs", command, "run_1") == "No run found with id 'run_1'."
    assert await alone.run("runs", "list") == (
        "id  status  thread  assistant  model  tokens  error  created"
    )
