"""Ten times the load that a server sustains: `python -m benchmarks.overload [--quick] [--processes] [--json FILE]`.

In one run: how fast a quiet server answers, what rate it sustains, and what becomes of it under ten times that rate for a minute.
"""

import argparse
import asyncio
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.figures import Figure, table
from benchmarks.load import Request, connected, request
from benchmarks.measures import make_thread, message
from benchmarks.openloop import Answered, Load, Outcome, at_random, evenly
from benchmarks.processes import (
    THREADLOOM,
    Process,
    Serving,
    fresh_server,
    running,
    server_environment,
    upstream,
)
from benchmarks.targets import make_assistant
from tests.support.postgres import running_postgres

MS = 1e3
TIMES = 10
ENDED = ("completed", "failed", "cancelled", "expired", "incomplete")
REST = 0.5
"""What still comes after the flood: this share of what is sustained."""
FEW = 0.05
"""The share of slow answers that a normal second may have."""


@dataclass(frozen=True)
class Sizes:
    """Seconds of each part. Short ones prove that the benchmark works, and nothing else."""

    quiet: float = 20.0
    quiet_rate: float = 25.0
    step: float = 5.0
    first_rate: float = 40.0
    growth: float = 1.25
    flood: float = 60.0
    recovery: float = 20.0


@dataclass(frozen=True)
class Served:
    """All processes, and where the API listens."""

    serving: Serving
    ports: tuple[int, ...]


QUICK = Sizes(quiet=1, step=0.5, first_rate=100, growth=4, flood=1, recovery=1)


@contextmanager
def one_process(upstream_port: int) -> Generator[Served]:
    """API and worker in one process, on SQLite."""
    with fresh_server(upstream_port, "sqlite") as serving:
        yield Served(serving, (serving.port,))


@contextmanager
def many_processes(upstream_port: int) -> Generator[Served]:
    """2 API and 2 worker processes on PostgreSQL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(running_postgres())
        url = stack.enter_context(postgres.database())
        environment = server_environment(upstream_port, url)
        data = ["--data-dir", str(folder / "data")]
        processes: list[Process] = []
        ports: list[int] = []
        for _ in range(2):
            serve = [THREADLOOM, "serve", "--no-worker", "--port", "0", *data]
            process = stack.enter_context(running(serve, folder, environment))
            ports.append(int(process.wait_for(re.compile(r"listens on http://127\.0\.0\.1:(\d+)"))))
            processes.append(process)
        for _ in range(2):
            process = stack.enter_context(
                running([THREADLOOM, "worker", *data], folder, environment)
            )
            process.wait_for(re.compile("Threadloom (works)"))
            processes.append(process)
        yield Served(Serving(ports[0], tuple(processes)), tuple(ports))


async def mixture(port: int) -> Sequence[tuple[str, Request]]:
    """What people do: they begin runs, look at them, write and read messages."""
    async with connected(port) as connection:
        assistant = await make_assistant(connection)
        body = {"assistant_id": assistant, "thread": {"messages": [message("[[tokens:20]]")]}}
        begin = request("POST", "/v1/threads/runs", body)
        run = await connection.ask(begin)
        thread = await make_thread(connection, 20)
    look = request("GET", f"/v1/threads/{run['thread_id']}/runs/{run['id']}")
    write = request("POST", f"/v1/threads/{thread}/messages", message("How are you?"))
    read = request("GET", f"/v1/threads/{thread}/messages?limit=20")
    return (("run", begin), ("look", look), ("write", write), ("read", read))


async def states(port: int) -> dict[str, str]:
    """The status of every run, by id."""
    found: dict[str, str] = {}
    async with connected(port) as connection:
        after = ""
        while True:
            page = await connection.ask(request("GET", f"/v1/runs?limit=100{after}"))
            found |= {run["id"]: run["status"] for run in page["data"]}
            if not page["has_more"]:
                return found
            after = f"&after={page['last_id']}"


async def settled(port: int, *, within: float) -> tuple[dict[str, str], float]:
    """All runs, once each has ended, and the seconds that took."""
    began = time.perf_counter()
    found: dict[str, str] = {}
    while True:
        with suppress(RuntimeError):  # it refuses this too
            found = await states(port)
        spent = time.perf_counter() - began
        if spent > within or (found and all(status in ENDED for status in found.values())):
            return found, spent
        await asyncio.sleep(0.25)


async def sustained(load: Load, port: int, quiet: Outcome, sizes: Sizes) -> float:
    """The highest rate at which nothing is refused, answers stay quick, and runs end about as fast as they begin."""
    rate, good = sizes.first_rate, sizes.first_rate
    while True:
        outcome = await load.run(evenly(rate, sizes.step))
        _, behind = await settled(port, within=30.0)
        quick = outcome.slowest(0.99) <= 3 * quiet.slowest(0.99)
        if not (quick and set(outcome.statuses) == {200} and behind <= max(1.0, sizes.step / 4)):
            return good
        print(f"  sustains {rate:.0f}/s, p99 {outcome.slowest(0.99) * MS:.0f} ms", flush=True)
        rate, good = rate * sizes.growth, rate


@asynccontextmanager
async def watching_memory(serving: Serving) -> AsyncGenerator[list[float]]:
    """MiB of all processes, once a second while the block runs."""
    seen = [await asyncio.to_thread(serving.pss)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(1.0)
            seen.append(await asyncio.to_thread(serving.pss))

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield seen
        task.cancel()


async def measured(served: Served, sizes: Sizes) -> list[Figure]:
    port = served.ports[0]
    kinds = await mixture(port)
    load = Load(served.ports, kinds)
    await load.run(evenly(50, 2))  # the first requests pay for imports and statements
    quiet = await load.run(evenly(sizes.quiet_rate, sizes.quiet))
    rate = await sustained(load, port, quiet, sizes)
    async with watching_memory(served.serving) as memory:
        flood = await load.run(evenly(TIMES * rate, sizes.flood))
        load.close()
        after = await Load(served.ports, kinds).run(at_random(REST * rate, sizes.recovery))
    found, _ = await settled(port, within=60.0)
    begun = {orjson.loads(one.body)["id"] for one in flood.accepted if one.kind == "run"}
    lost = sum(found.get(run_id) != "completed" for run_id in begun)
    later = flood.since(1.0)  # its first requests are a burst like any other, and wait their turn
    bound = 3 * quiet.slowest(0.99)
    return [
        *latencies("quiet", quiet),
        Figure("sustainable", rate, "requests/s"),
        Figure("flood, sent", len(flood.answers) / sizes.flood, "requests/s"),
        Figure("flood, load generator late by at most", flood.lag * MS, "ms"),
        *latencies("flood, accepted", flood),
        *latencies("flood after its first second, accepted", later),
        *(
            Figure(
                f"{name}, accepted p99, times the quiet one",
                one.slowest(0.99) / quiet.slowest(0.99),
                "",
            )
            for name, one in (("flood", flood), ("flood after its first second", later))
        ),
        Figure("flood, accepted", len(flood.accepted) / sizes.flood, "requests/s"),
        *(
            Figure(f"flood, answered {status}", count, "requests")
            for status, count in sorted(flood.statuses.items())
        ),
        Figure("flood, refusals without retry-after", flood.mute, "requests"),
        Figure("memory before", memory[0], "MiB PSS"),
        Figure("memory, most above before", max(memory) - memory[0], "MiB PSS"),
        Figure("back to normal after", normal_from(after, bound), "s"),
        Figure("runs begun in the flood", len(begun), "runs"),
        Figure("runs lost", lost, "runs"),
    ]


def normal_from(outcome: Outcome, bound: float) -> float:
    """The seconds after which nothing was refused, and few answers of any second took longer than `bound`."""
    seconds = defaultdict[int, list[Answered]](list)
    for one in outcome.answers:
        seconds[int(one.at)].append(one)
    abnormal = [
        second + 1
        for second, answers in seconds.items()
        if any(one.status != 200 for one in answers)
        or sum(one.seconds > bound for one in answers) > FEW * len(answers)
    ]
    return max(abnormal, default=0)


def latencies(name: str, outcome: Outcome) -> list[Figure]:
    return [
        Figure(f"{name} {label}", outcome.slowest(share) * MS, "ms")
        for share, label in ((0.5, "p50"), (0.99, "p99"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes: does it work at all?"
    )
    parser.add_argument(
        "--processes", action="store_true", help="2 API and 2 worker processes on PostgreSQL"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    with upstream() as bare, ExitStack() as stack:
        served = stack.enter_context(
            many_processes(bare.port) if options.processes else one_process(bare.port)
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(measured(served, QUICK if options.quick else Sizes()))
    print("\n" + table(figures))
    if options.json:
        report: dict[str, Any] = {"figures": [figure.as_json() for figure in figures]}
        options.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
