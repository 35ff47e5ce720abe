"""Many runs, with workers that die all the time, and with workers that race for them."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import LiteralString, TypeVar

import httpx2
import psycopg

from tests.faults.client import Client, Started, Stream, check_story, check_told_once
from tests.faults.processes import Fleet, Process, until
from threadloom.testing.upstream import Upstream

T = TypeVar("T")
WORDS = " ".join(f"word{number}" for number in range(12))
SAMPLE = 10
FEW_AT_ONCE = {"THREADLOOM_RUNS__CONCURRENCY": "16"}
MOST_DEATHS = 4
RUNS = 80


def prompt(number: int) -> str:
    return f"[[rate:40]][[text:{WORDS}]] number {number}"


@asynccontextmanager
async def nemesis(*processes: Process, every: float) -> AsyncGenerator[list[float]]:
    """Kill the process that works for longest, `MOST_DEATHS` times, and start it again at once.

    Answers with the times of death.
    """
    deaths: list[float] = []

    async def strike() -> None:
        for victim in itertools.islice(itertools.cycle(processes), MOST_DEATHS):
            await victim.ready()
            await asyncio.sleep(every)
            victim.kill()
            deaths.append(time.monotonic())
            victim.start()

    striking = asyncio.create_task(strike())
    try:
        yield deaths
    finally:
        striking.cancel()
        await asyncio.wait([striking])


async def stubborn(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again until the server is back."""
    while True:
        try:
            return await call()
        except httpx2.TransportError:
            await asyncio.sleep(0.05)


async def test_workers_die_every_second(on_postgres: Fleet, upstream: Upstream) -> None:
    api = on_postgres.serve(with_worker=False)
    workers = [on_postgres.worker(name, FEW_AT_ONCE) for name in "abc"]
    await asyncio.gather(*(process.ready() for process in (api, *workers)))
    async with Client(api) as client, AsyncExitStack() as stack:
        runs: list[Started] = []
        streams: list[Stream] = []
        async with nemesis(*workers, every=1.0) as deaths:
            for number in range(RUNS):
                runs.append(await client.begin(prompt(number)))
                # So that the last ones begin after the third death.
                await asyncio.sleep(3.2 / RUNS)
                if number % (RUNS // SAMPLE) == 0:
                    following = client.following(runs[-1])
                    streams.append(await stack.enter_async_context(following))
            await all_completed(on_postgres, len(runs))
            await asyncio.gather(*(stream.end() for stream in streams))
        for run, stream in zip(runs[:: RUNS // SAMPLE], streams, strict=True):
            assert stream.done
            await check_story(client, run, stream.events)
        for run in runs:
            await check_told_once(client, run, WORDS)
        assert len(deaths) >= 3
        assert upstream.calls.total() <= attempts(on_postgres)


def asked(fleet: Fleet, question: LiteralString) -> int:
    with psycopg.connect(fleet.database_url) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return int(row[0])


def attempts(fleet: Fleet) -> int:
    """How often runs were claimed: nobody asks the model who did not claim."""
    return asked(fleet, "SELECT sum(epoch) FROM runs")


async def all_completed(fleet: Fleet, count: int) -> None:
    question = "SELECT count(*) FROM runs WHERE status = 'completed'"
    await until(
        lambda: asked(fleet, question) == count, f"{count} runs completed", within=60, every=0.25
    )


async def test_a_lone_server_dies_again_and_again(on_sqlite: Fleet) -> None:
    server = on_sqlite.serve()
    await server.ready()
    async with Client(server) as client:
        await client.assistant()
        runs: list[Started] = []
        readers: list[asyncio.Task[None]] = []
        async with nemesis(server, every=2.0) as deaths:
            while len(deaths) < 2:
                runs.append(await stubborn(lambda: client.begin(prompt(len(runs)))))
                if len(runs) % SAMPLE == 1:
                    readers.append(asyncio.create_task(read_through(client, runs[-1])))
                await asyncio.sleep(0.1)
        await server.ready()
        await asyncio.gather(*readers)
        for run in runs:
            await client.reaches(run, "completed")
            await check_told_once(client, run, WORDS)


async def read_through(client: Client, run: Started) -> None:
    """Read a run's stream, and resume it as often as it breaks."""
    read = Stream()
    while not read.done:
        try:
            async with client.following(run, after=read.last_id) as stream:
                await stream.end()
        except httpx2.TransportError:
            await asyncio.sleep(0.05)
        else:
            read.go_on(stream)
    await stubborn(lambda: check_story(client, run, read.events))


async def test_each_run_is_taken_once(on_postgres: Fleet, upstream: Upstream) -> None:
    api = on_postgres.serve(with_worker=False)
    # Patience: a lease that runs out on a crowded machine is taken over, and would count twice.
    settings = {"THREADLOOM_RUNS__LEASE": "60s"} | FEW_AT_ONCE
    workers = [on_postgres.worker(name, settings) for name in "abcd"]
    await asyncio.gather(*(process.ready() for process in (api, *workers)))
    for worker in workers:
        worker.pause()
    prompts = [f"[[tokens:3]] number {number}" for number in range(160)]
    async with Client(api) as client:
        bodies = [await client.order(text) for text in prompts]
        for batch in range(0, len(bodies), 25):
            posts = (client.post("/threads/runs", body) for body in bodies[batch : batch + 25])
            await asyncio.gather(*posts)
        for worker in workers:
            worker.resume()
        await all_completed(on_postgres, len(prompts))
    assert upstream.calls == dict.fromkeys(prompts, 1)
    assert attempts(on_postgres) == len(prompts)
    assert all(b"rested" in worker.log.read_bytes() for worker in workers), "one was idle"


async def test_connections_to_the_database_break(on_postgres: Fleet) -> None:
    api = on_postgres.serve(with_worker=False)
    workers = [on_postgres.worker(name) for name in "ab"]
    await asyncio.gather(*(process.ready() for process in (api, *workers)))
    async with Client(api) as client, AsyncExitStack() as stack:
        runs = [await client.begin(prompt(number)) for number in range(30)]
        streams = [await stack.enter_async_context(client.following(run)) for run in runs[:SAMPLE]]
        for stream in streams:
            await stream.deltas(random.randint(1, 5))
        for _ in range(3):
            break_connections(on_postgres)
            await asyncio.sleep(0.3)
        await all_completed(on_postgres, len(runs))
        for run in runs:
            await check_told_once(client, run, WORDS)
        for run, stream in zip(runs, streams, strict=False):
            await stream.end()
            if stream.done:
                await check_story(client, run, stream.events)


def break_connections(fleet: Fleet) -> None:
    with psycopg.connect(fleet.database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
