"""`kill -9` of whoever drives a run, in each state of the run."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import psycopg
import pytest
import pytest_asyncio

from tests.faults.client import Client, Started, check_story, check_told_once, retell
from tests.faults.processes import Fleet, Process, Server, until
from threadloom.testing.upstream import Answer, Upstream

WORDS = " ".join(f"word{number}" for number in range(40))
SLOWLY = f"[[rate:20]][[text:{WORDS}]]"
NEVER = Answer(delay=float("inf"))
LEFT = b'"event": "left"'
RECOVERY = 40.0
"""Seconds from the death of a worker to the end of its run: the lease is 2 s, the answers take 2 s, and the machine may be crowded."""


@dataclass
class Cluster:
    """An API that stays, worker A that has the run, worker B that waits until A is dead."""

    client: Client
    a: Process
    b: Process
    fleet: Fleet

    async def kill_a(self) -> None:
        self.a.kill()
        self.b.resume()


@dataclass
class Processes:
    """What the tests share: the worker that a test leaves alive is the next one's A, and B is started again."""

    api: Server
    workers: list[Process]
    fleet: Fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(lasting_on_postgres: Fleet) -> Processes:
    fleet = lasting_on_postgres
    api, workers = fleet.serve(with_worker=False), [fleet.worker(name) for name in ("one", "two")]
    await asyncio.gather(*(process.ready() for process in (api, *workers)))
    return Processes(api, workers, fleet)


@pytest.fixture
async def cluster(processes: Processes) -> AsyncGenerator[Cluster]:
    a, b = processes.workers
    if not b.alive:
        b.start()
    await b.ready()
    b.pause()
    async with Client(processes.api) as client:
        yield Cluster(client, a, b, processes.fleet)
    a.kill()
    b.resume()
    processes.workers.reverse()


async def called(scripted: Upstream, text: str, times: int) -> None:
    await until(lambda: scripted.calls[text] == times, f"{times} calls for {text!r}")


async def test_just_claimed(cluster: Cluster, scripted: Upstream) -> None:
    cluster.a.kill()
    run = await cluster.client.begin("[[text:Hello there]]")
    async with cluster.client.following(run) as stream:
        with psycopg.connect(cluster.fleet.database_url) as lock:
            # A can claim the run but not begin it: that would write an event.
            lock.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            cluster.a.start()
            with psycopg.connect(cluster.fleet.database_url, autocommit=True) as look:
                claimed = "SELECT status = 'queued' AND epoch = 1 FROM runs WHERE id = %s"
                await until(
                    lambda: (look.execute(claimed, [run.id]).fetchone() or (False,))[0], "claimed"
                )
            cluster.a.kill()
        cluster.b.resume()
        await stream.end(within=RECOVERY)
    await check_told_once(cluster.client, run, "Hello there")
    await check_story(cluster.client, run, stream.events)
    assert scripted.calls["[[text:Hello there]]"] == 1


async def test_before_the_first_word(cluster: Cluster, scripted: Upstream) -> None:
    scripted.answers(NEVER)
    run = await cluster.client.begin("[[text:Hello there]]")
    async with cluster.client.following(run) as stream:
        await called(scripted, "[[text:Hello there]]", 1)
        await cluster.kill_a()
        await stream.end(within=RECOVERY)
    await check_told_once(cluster.client, run, "Hello there")
    await check_story(cluster.client, run, stream.events)
    assert scripted.calls["[[text:Hello there]]"] == 2


async def test_in_the_middle_of_an_answer(cluster: Cluster, scripted: Upstream) -> None:
    run = await cluster.client.begin(SLOWLY)
    async with cluster.client.following(run) as stream:
        await stream.deltas(5)
        await cluster.kill_a()
        await stream.end(within=RECOVERY)
    await check_told_once(cluster.client, run, WORDS)
    await check_story(cluster.client, run, stream.events)
    assert scripted.calls[SLOWLY] == 2


async def waiting_for_the_client(client: Client) -> tuple[Started, str]:
    """A run whose function call is to be answered, and the call's id."""
    run = await client.begin("[[tool:look {}]]", with_function=True)
    await client.reaches(run, "requires_action")
    action = (await client.run(run))["required_action"]
    return run, action["submit_tool_outputs"]["tool_calls"][0]["id"]


async def check_tool_called_once(client: Client, run: Started, output: str) -> None:
    [step, *_] = await client.steps(run)
    [call] = step["step_details"]["tool_calls"]
    assert (step["status"], call["function"]["output"]) == ("completed", output)


async def test_between_a_tool_output_and_the_next_turn(
    cluster: Cluster, scripted: Upstream
) -> None:
    client = cluster.client
    run, call = await waiting_for_the_client(client)
    scripted.answers(NEVER)
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "sunny"}]}
    async with client.streaming(f"{run.path}/submit_tool_outputs", outputs) as stream:
        await called(scripted, "sunny", 1)
        await cluster.kill_a()
        await stream.end(within=RECOVERY)
    await check_told_once(client, run, "The tool answered: sunny")
    await check_tool_called_once(client, run, "sunny")
    await check_story(client, run, stream.events)
    assert scripted.calls == {"[[tool:look {}]]": 1, "sunny": 2}


async def test_in_the_turn_after_a_tool_output(cluster: Cluster, scripted: Upstream) -> None:
    client = cluster.client
    run, call = await waiting_for_the_client(client)
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": SLOWLY}]}
    async with client.streaming(f"{run.path}/submit_tool_outputs", outputs) as stream:
        await stream.deltas(5)
        await cluster.kill_a()
        await stream.end(within=RECOVERY)
    await check_told_once(client, run, WORDS)
    await check_tool_called_once(client, run, SLOWLY)
    await check_story(client, run, stream.events)
    assert scripted.calls == {"[[tool:look {}]]": 1, SLOWLY: 2}


async def test_while_the_client_is_asked(cluster: Cluster, scripted: Upstream) -> None:
    client = cluster.client
    run, call = await waiting_for_the_client(client)
    await cluster.kill_a()
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "sunny"}]}
    async with client.streaming(f"{run.path}/submit_tool_outputs", outputs) as stream:
        await stream.end(within=RECOVERY)
    await check_told_once(client, run, "The tool answered: sunny")
    await check_story(client, run, stream.events)
    assert scripted.calls == {"[[tool:look {}]]": 1, "sunny": 1}


async def is_cancelling(client: Client, run: Started) -> bool:
    """A worker that was frozen inside a transaction keeps the run locked for a while: until then it is a 503."""
    try:
        return (await client.post(f"{run.path}/cancel"))["status"] == "cancelling"
    except AssertionError as error:
        if "The database does not answer" not in str(error):
            raise
        return False


async def test_while_cancelling(cluster: Cluster) -> None:
    client = cluster.client
    run = await client.begin(SLOWLY)
    async with client.following(run) as stream:
        await stream.deltas(5)
        cluster.a.pause()
        await until(lambda: is_cancelling(client, run), "the run is cancelled")
        await cluster.kill_a()
        await stream.end(within=RECOVERY)
    assert stream.names[-1] == "thread.run.cancelled"
    assert retell(stream.events) == {}
    [message] = await client.messages(run)
    assert message["status"] == "incomplete"
    assert [step["status"] for step in await client.steps(run)] == ["cancelled"]


async def test_frozen_inside_a_transaction(cluster: Cluster, scripted: Upstream) -> None:
    """A frozen worker keeps its rows locked, so that nobody could claim, cancel or delete its run.

    Two of its transactions are open here: one that tells of the answer, and behind it one that renews the lease.
    """
    client = cluster.client
    leavings = cluster.a.log.read_bytes().count(LEFT)
    run = await client.begin(SLOWLY)
    async with client.following(run) as stream:
        await stream.deltas(5)
        with psycopg.connect(cluster.fleet.database_url) as lock:
            lock.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            with psycopg.connect(cluster.fleet.database_url, autocommit=True) as look:
                waiting = "SELECT count(DISTINCT pid) = 2 FROM pg_locks WHERE NOT granted"
                await until(lambda: (look.execute(waiting).fetchone() or (False,))[0], "A waits")
            cluster.a.pause()
        cluster.b.resume()
        await until(lambda: scripted.calls[SLOWLY] == 2, "B took over", within=RECOVERY)
        cluster.a.resume()
        await stream.end()
    await until(lambda: cluster.a.log.read_bytes().count(LEFT) > leavings, "A gave up")
    await check_told_once(client, run, WORDS)
    await check_story(client, run, stream.events)


# One process for all, on SQLite: the streams die with it, and clients resume them.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(lasting_on_sqlite: Fleet) -> Server:
    server = lasting_on_sqlite.serve()
    await server.ready()
    return server


async def restart(server: Server) -> None:
    began = time.monotonic()
    server.kill()
    server.start()
    await server.ready()
    assert time.monotonic() - began < RECOVERY


@pytest.mark.parametrize("by", ["after", "last_event_id"])
async def test_a_stream_is_resumed(alone: Server, scripted: Upstream, by: str) -> None:
    async with Client(alone) as client:
        run = await client.begin(SLOWLY)
        async with client.following(run) as first:
            await first.deltas(5)
            await restart(alone)
            await first.end()
        assert first.broken
        async with client.following(run, **{by: first.last_id}) as rest:
            await rest.end(within=RECOVERY)
        await check_told_once(client, run, WORDS)
        await check_story(client, run, [*first.events, *rest.events])
    assert scripted.calls[SLOWLY] == 2


async def test_alone_before_the_first_word(alone: Server, scripted: Upstream) -> None:
    scripted.answers(NEVER)
    async with Client(alone) as client:
        run = await client.begin("[[text:Hello there]]")
        await called(scripted, "[[text:Hello there]]", 1)
        await restart(alone)
        await client.reaches(run, "completed", within=RECOVERY)
        await check_told_once(client, run, "Hello there")
    assert scripted.calls["[[text:Hello there]]"] == 2


@pytest.mark.parametrize("output", ["sunny", SLOWLY])
async def test_alone_after_a_tool_output(alone: Server, scripted: Upstream, output: str) -> None:
    async with Client(alone) as client:
        run, call = await waiting_for_the_client(client)
        if output == "sunny":
            scripted.answers(NEVER)
        outputs = {"tool_outputs": [{"tool_call_id": call, "output": output}]}
        async with client.streaming(f"{run.path}/submit_tool_outputs", outputs) as first:
            await called(scripted, output, 1)
            if output == SLOWLY:
                await first.deltas(5)
            await restart(alone)
            await first.end()
        async with client.following(run, after=first.last_id) as rest:
            await rest.end(within=RECOVERY)
        await check_told_once(
            client, run, WORDS if output == SLOWLY else "The tool answered: sunny"
        )
        await check_tool_called_once(client, run, output)
        await check_story(client, run, [*first.events, *rest.events])
    assert scripted.calls == {"[[tool:look {}]]": 1, output: 2}


async def test_alone_right_after_a_cancel(alone: Server) -> None:
    async with Client(alone) as client:
        run = await client.begin(SLOWLY)
        async with client.following(run) as stream:
            await stream.deltas(5)
            assert (await client.post(f"{run.path}/cancel"))["status"] == "cancelling"
            await restart(alone)
        await client.reaches(run, "cancelled", within=RECOVERY)
        assert [step["status"] for step in await client.steps(run)] == ["cancelled"]
