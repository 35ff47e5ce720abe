"""Several processes on one PostgreSQL: `python -m benchmarks.processes_together [--quick] [--json FILE]`.

(a) Runs a second when 500 are asked for at once and the model takes a second to answer: one process, and two of the API beside two workers.
(b) 500 streams of 20 tokens a second: whether each is complete and in order, and how long its reader waits for the next token while all of
them are open.

Everything shares the machine's processors, PostgreSQL, the model and this load generator included: the share of each is told, because it is
what bounds the ratio. `taskset -c 0,1` measures it on two.
"""

import argparse
import asyncio
import itertools
import os
import re
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import uvloop

from benchmarks.figures import Figure, table
from benchmarks.load import Connection, Request, connected, request
from benchmarks.measures import percentile
from benchmarks.processes import (
    THREADLOOM,
    TICKS,
    Process,
    Serving,
    running,
    server_environment,
    upstream,
)
from benchmarks.targets import make_assistant
from tests.support.postgres import Postgres, running_postgres

LISTENS = re.compile(r"listens on http://127\.0\.0\.1:(\d+)")
WORKS = re.compile("Threadloom (works)")
DELTA = b"event: thread.message.delta\n"
VALUE = re.compile(rb'"value":"([^"]*)"')
MS = 1000.0
PATIENCE = 150.0
CONCURRENCY = 512


@dataclass(frozen=True)
class Sizes:
    """How much is asked for."""

    clients: int = 500
    each: int = 3
    words: int = 600
    rate: int = 20


QUICK = Sizes(clients=20, each=1, words=40)


@dataclass(frozen=True)
class Shape:
    """So many processes of each kind; without workers the API's process drives the runs too."""

    name: str
    apis: int
    workers: int


ONE, FOUR = Shape("one process", 1, 0), Shape("2 API + 2 workers", 2, 2)


@dataclass(frozen=True)
class Servers:
    """A running shape."""

    ports: Sequence[int]
    processes: Mapping[str, Sequence[Process]]
    postgres: Postgres

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far by kind, this program's among them."""
        spent = {kind: sum(one.cpu() for one in many) for kind, many in self.processes.items()}
        times = os.times()
        return spent | {
            "PostgreSQL": cpu_of_children(self.postgres.pid),
            "load": times.user + times.system,
        }


def cpu_of_children(pid: int) -> float:
    """Of those that live."""
    spent = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == pid:
            spent += (int(fields[11]) + int(fields[12])) / TICKS
    return spent


@contextmanager
def started(shape: Shape, model: Serving) -> Generator[Servers]:
    """On an empty database of a PostgreSQL of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(running_postgres())
        url = stack.enter_context(postgres.database())
        concurrency = {"THREADLOOM_RUNS__CONCURRENCY": str(CONCURRENCY)}
        environment = server_environment(model.port, url) | concurrency
        options = ["--data-dir", str(folder / "data")]
        serve = [THREADLOOM, "serve", "--port", "0", *options]
        if shape.workers:
            serve.append("--no-worker")
        apis = [stack.enter_context(running(serve, folder, environment)) for _ in range(shape.apis)]
        work = [THREADLOOM, "worker", *options]
        workers = [
            stack.enter_context(running(work, folder, environment)) for _ in range(shape.workers)
        ]
        ports = [int(one.wait_for(LISTENS)) for one in apis]
        for one in workers:
            one.wait_for(WORKS)
        kinds = {"API": apis, "workers": workers, "model": model.processes}
        yield Servers(ports, kinds, postgres)


@dataclass(frozen=True)
class Read:
    """One stream: when each token came, and what they said together."""

    began: float
    tokens: list[float]
    text: str

    def gaps(self, since: float, until: float) -> list[float]:
        """Seconds between tokens that came in this time."""
        tokens = [token for token in self.tokens if since <= token <= until]
        return [later - earlier for earlier, later in itertools.pairwise(tokens)]


def asked(assistant_id: str, script: str) -> Request:
    thread = {"messages": [{"role": "user", "content": script}]}
    body = {"assistant_id": assistant_id, "stream": True, "thread": thread}
    return request("POST", "/v1/threads/runs", body)


async def read(connection: Connection, what: Request) -> Read:
    began = time.perf_counter()
    tokens: list[float] = []
    whole = bytearray()
    async for piece in connection.pieces(what):
        whole += piece
        now = time.perf_counter()
        tokens.extend([now] * (whole.count(DELTA) - len(tokens)))
    said = b"".join(
        value[1]
        for block in bytes(whole).split(b"\n\n")
        if DELTA in block and (value := VALUE.search(block))
    )
    return Read(began, tokens, said.decode())


async def load(servers: Servers, what: Request, *, clients: int, each: int) -> list[Read]:
    """So many connections in turn to each API process, and on each so many streams one after the other."""

    async def client(number: int) -> list[Read]:
        async with connected(servers.ports[number % len(servers.ports)]) as connection:
            return [await read(connection, what) for _ in range(each)]

    async with asyncio.timeout(PATIENCE):
        lists = await asyncio.gather(*(client(number) for number in range(clients)))
    return [one for many in lists for one in many]


async def throughput(servers: Servers, sizes: Sizes) -> tuple[float, dict[str, float]]:
    """Runs a second, and the processor time of one run in milliseconds by kind of process."""
    async with connected(servers.ports[0]) as connection:
        assistant_id = await make_assistant(connection)
    await load(servers, asked(assistant_id, "Warm up"), clients=8, each=4)
    before, began = servers.cpu(), time.perf_counter()
    what = asked(assistant_id, "[[delay:1]][[tokens:20]]")
    done = await load(servers, what, clients=sizes.clients, each=sizes.each)
    seconds = time.perf_counter() - began
    spent = {kind: (spent - before[kind]) * MS / len(done) for kind, spent in servers.cpu().items()}
    assert {len(one.tokens) for one in done} == {20}
    return len(done) / seconds, spent


async def smoothness(servers: Servers, sizes: Sizes) -> Sequence[Figure]:
    async with connected(servers.ports[0]) as connection:
        assistant_id = await make_assistant(connection)
    text = " ".join(f"word{number}" for number in range(sizes.words))
    what = asked(assistant_id, f"[[rate:{sizes.rate}]][[text:{text}]]")
    before, began = servers.cpu(), time.perf_counter()
    done = await load(servers, what, clients=sizes.clients, each=1)
    seconds = time.perf_counter() - began
    name = f"{sizes.clients} streams x {sizes.rate} tokens/s"
    whole = sum(one.text == text for one in done) / len(done)
    since, until = max(one.tokens[0] for one in done), min(one.tokens[-1] for one in done)
    gaps = [gap * MS for one in done for gap in one.gaps(since, until)]
    first = [(one.tokens[0] - one.began) * MS for one in done]
    return [
        Figure(f"{name}, complete and in order", whole, "share"),
        Figure(f"{name}, gap p50", percentile(gaps, 0.5), "ms"),
        Figure(f"{name}, gap p99", percentile(gaps, 0.99), "ms"),
        Figure(f"{name}, longest gap", max(gaps), "ms"),
        Figure(f"{name}, all open for", until - since, "s"),
        Figure(f"{name}, first token p50", percentile(first, 0.5), "ms"),
        *(
            Figure(f"{name}, {kind}", (spent - before[kind]) / seconds, "processors")
            for kind, spent in servers.cpu().items()
        ),
    ]


async def measured(sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    reached: dict[str, float] = {}
    with upstream() as model:
        for shape in (ONE, FOUR):
            with started(shape, model) as servers:
                reached[shape.name], spent = await throughput(servers, sizes)
                name = f"{sizes.clients} runs at once, {shape.name}"
                figures.append(Figure(name, reached[shape.name], "runs/s"))
                figures.extend(
                    Figure(f"{name}, {kind}", cost, "ms/run") for kind, cost in spent.items()
                )
                if shape is FOUR:
                    figures.extend(await smoothness(servers, sizes))
    ratio = reached[FOUR.name] / reached[ONE.name]
    return [*figures, Figure("2 API + 2 workers against one process", ratio, "times")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = uvloop.run(measured(QUICK if options.quick else Sizes()))
    print(table(figures))
    if options.json:
        report = {
            "processors": len(os.sched_getaffinity(0)),
            "figures": [one.as_json() for one in figures],
        }
        options.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
