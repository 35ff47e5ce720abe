"""Processes that are told to go, and one that sleeps through its lease."""

import asyncio

import pytest_asyncio

from tests.faults.client import Client, check_story, check_told_once
from tests.faults.processes import Fleet, Process, Server, until
from threadloom.testing.upstream import Upstream

WORDS = " ".join(f"word{number}" for number in range(60))
SLOWLY = f"[[rate:20]][[text:{WORDS}]]"
GONE = 20.0
"""Seconds in which a process that was told to go has gone, and its streams have ended: a crowded machine needs some. Open requests
would be given 30."""
LONG_LEASE = {"THREADLOOM_RUNS__LEASE": "120s"}
"""Whoever waits for this lease is too late: only a run that was handed back goes on in time."""
SHORT_LEASE = {"THREADLOOM_RUNS__LEASE": "2s"}
Processes = tuple[Server, Process, Process]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(lasting_on_postgres: Fleet) -> Processes:
    """An API, and workers A and B; the tests on PostgreSQL use them in their order here."""
    api = lasting_on_postgres.serve(with_worker=False)
    a, b = (lasting_on_postgres.worker(name, LONG_LEASE) for name in "ab")
    await asyncio.gather(*(process.ready() for process in (api, a, b)))
    return api, a, b


async def test_a_worker_hands_its_runs_over(processes: Processes, scripted: Upstream) -> None:
    run_count = 12
    api, a, b = processes
    b.pause()
    async with Client(api) as client:
        texts = [f"{SLOWLY} number {number}" for number in range(run_count)]
        await client.assistant()
        runs = await asyncio.gather(*map(client.begin, texts))
        async with client.following(runs[0]) as stream:
            await stream.deltas(5)
            await until(lambda: len(scripted.calls) == run_count, "all runs have begun")
            b.resume()
            a.terminate()
            await until(lambda: scripted.calls.total() == 2 * run_count, "B goes on", within=GONE)
            assert await a.ended(within=GONE) == 0
            await stream.end()
        for run in runs:
            await client.reaches(run, "completed")
            await check_told_once(client, run, WORDS)
        await check_story(client, runs[0], stream.events)


async def test_streams_end_when_the_api_is_told_to_go(processes: Processes) -> None:
    api, *_ = processes
    async with Client(api) as client:
        run = await client.begin(SLOWLY)
        async with client.following(run) as first, client.following(run) as second:
            await first.deltas(5)
            await second.deltas(5)
            api.terminate()
            await first.end(within=GONE)
            await second.end(within=GONE)
        assert first.error == second.error
        assert first.error == "The server is shutting down. The run goes on: read it again."
        assert await api.ended(within=GONE) == 0
        api.start()
        await api.ready()
        async with client.following(run, after=first.last_id) as rest:
            await rest.end()
        await check_told_once(client, run, WORDS)
        await check_story(client, run, [*first.events, *rest.events])


async def test_a_worker_that_slept_through_its_lease_is_fenced_off(
    processes: Processes, scripted: Upstream
) -> None:
    api, a, b = processes
    for worker in (a, b):
        worker.kill()
    a.start(SHORT_LEASE)
    await a.ready()
    async with Client(api) as client:
        run = await client.begin(SLOWLY)
        async with client.following(run) as stream:
            await stream.deltas(5)
            a.pause()
            b.start(SHORT_LEASE)
            await b.ready()
            await until(lambda: scripted.calls[SLOWLY] == 2, "B took over")
            a.resume()
            await stream.end()
        await until(lambda: b"lease lost" in a.log.read_bytes(), "A knows that it lost the run")
        await check_told_once(client, run, WORDS)
        await check_story(client, run, stream.events)
        assert scripted.calls[SLOWLY] == 2
        again = await client.begin("[[text:Hello there]]")
        await client.reaches(again, "completed")


async def test_a_lone_server_goes_on_after_its_restart(
    on_sqlite: Fleet, upstream: Upstream
) -> None:
    server = on_sqlite.serve(LONG_LEASE)
    await server.ready()
    async with Client(server) as client:
        run = await client.begin(SLOWLY)
        other = await client.begin("[[hang]]")
        async with client.following(run) as first, client.following(other) as silent:
            await first.deltas(5)
            await until(lambda: upstream.calls["[[hang]]"] == 1, "the other run has begun")
            server.terminate()
            await first.end(within=GONE)
            await silent.end(within=GONE)
        assert first.error == silent.error
        assert first.error == "The server is shutting down. The run goes on: read it again."
        assert await server.ended(within=GONE) == 0
        server.start()
        await server.ready()
        async with client.following(run, after=first.last_id) as rest:
            await rest.end()
        await check_told_once(client, run, WORDS)
        await check_story(client, run, [*first.events, *rest.events])
        await until(lambda: upstream.calls["[[hang]]"] == 2, "the other run has begun again")
        await client.post(f"{other.path}/cancel")
        await client.reaches(other, "cancelled")
