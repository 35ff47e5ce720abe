"""The measures. Each alternates between the upstream and the server, so that a noisy machine harms both alike."""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure, clients_of, percentile
from benchmarks.load import Connection, Load, Request, connected, load, request
from benchmarks.processes import Serving, server
from benchmarks.targets import Pair, Target, make_assistant

CLIENTS = (1, 8, 32)
POLL_EVERY = 0.05
MS, US = 1e3, 1e6


@dataclass(frozen=True)
class Sizes:
    """How much is done. Small sizes prove that the benchmark works, and nothing else."""

    rounds: int = 3
    streams: int = 96
    long_answer: int = 2000
    long_answers: int = 8
    paced_tokens: int = 300
    runs: int = 320
    requests: int = 960
    threads: tuple[int, ...] = (10, 1000, 10_000)
    thread_runs: int = 40
    starts: int = 3
    rest: float = 3.0


QUICK = Sizes(
    rounds=1,
    streams=32,
    long_answers=1,
    paced_tokens=50,
    runs=32,
    requests=64,
    threads=(10, 100),
    thread_runs=2,
    starts=1,
    rest=0.2,
)


@dataclass(frozen=True)
class Streaming:
    """Streams of one target, and the processor seconds they cost it."""

    done: Load
    cpu: float

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.done.results)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.done.seconds

    def first(self, share: float) -> float:
        return percentile([one.first for one in self.done.results], share) * MS


async def stream(target: Target, asked: Request, *, clients: int, each: int) -> Streaming:
    before = target.serving.cpu()
    done = await load(target.serving.port, lambda c: c.stream(asked), clients=clients, each=each)
    return Streaming(done, target.serving.cpu() - before)


@dataclass(frozen=True)
class Rounds:
    """The same streams, directly and through the server, several times in turn."""

    direct: Sequence[Streaming]
    served: Sequence[Streaming]

    @property
    def share(self) -> float:
        """Of the upstream's own tokens a second."""
        pairs = zip(self.direct, self.served, strict=True)
        return median(s.tokens_per_second / d.tokens_per_second for d, s in pairs)

    @property
    def cpu_a_token(self) -> float:
        return sum(one.cpu for one in self.served) / sum(one.tokens for one in self.served)

    @property
    def cpu_a_stream(self) -> float:
        return sum(one.cpu for one in self.served) / sum(len(s.done.results) for s in self.served)


async def rounds(
    pair: Pair, sizes: Sizes, *, tokens: int, rate: float = 0, clients: int, each: int
) -> Rounds:
    direct: list[Streaming] = []
    served: list[Streaming] = []
    for _ in range(sizes.rounds):
        for target, results in ((pair.direct, direct), (pair.served, served)):
            asked = target.streaming(tokens, rate)
            results.append(await stream(target, asked, clients=clients, each=each))
    return Rounds(direct, served)


async def first_token(pair: Pair, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(a) From the request to the first token."""
    for clients in CLIENTS:
        each = sizes.streams // clients
        done = await rounds(pair, sizes, tokens=20, clients=clients, each=each)
        name = f"first token, {clients_of(clients)}"
        for share, label in ((0.5, "p50"), (0.95, "p95")):
            direct = median(one.first(share) for one in done.direct)
            served = median(one.first(share) for one in done.served)
            yield Figure(f"{name}, direct {label}", direct, "ms")
            yield Figure(f"{name}, served {label}", served, "ms")
            yield Figure(f"{name}, overhead {label}", served - direct, "ms")


async def unpaced(pair: Pair, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(b) A long answer as fast as it goes."""
    for clients in CLIENTS:
        each = max(1, sizes.long_answers // clients)
        done = await rounds(pair, sizes, tokens=sizes.long_answer, clients=clients, each=each)
        name = f"unpaced {sizes.long_answer:,} tokens, {clients_of(clients)}"
        speed = median(one.tokens_per_second for one in done.served)
        yield Figure(f"{name}, served", speed, "tokens/s")
        yield Figure(f"{name}, share of direct", done.share, "")
        yield Figure(f"{name}, CPU a token", done.cpu_a_token * US, "us")


async def paced(pair: Pair, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(b) Many people reading, and what others notice of it."""
    asked, polled = pair.served.streaming(sizes.paced_tokens, 50), await a_run(pair.served)
    name = "32 streams x 50 tokens/s"
    direct = await stream(
        pair.direct, pair.direct.streaming(sizes.paced_tokens, 50), clients=32, each=1
    )
    async with polling(pair.served, polled) as latencies:
        served = await stream(pair.served, asked, clients=32, each=1)
    yield Figure(f"{name}, share of direct", Rounds([direct], [served]).share, "")
    yield Figure(f"{name}, CPU a token", served.cpu / served.tokens * US, "us")
    yield Figure(f"{name}, other requests p50", percentile(latencies, 0.5) * MS, "ms")
    yield Figure(f"{name}, other requests p95", percentile(latencies, 0.95) * MS, "ms")
    yield Figure(f"{name}, other requests slowest", max(latencies) * MS, "ms")


async def a_run(target: Target) -> Request:
    """A request for a finished run."""
    async with connected(target.serving.port) as connection:
        await connection.stream(target.streaming(1))
        runs = await connection.ask(request("GET", "/v1/runs?limit=1"))
    run = runs["data"][0]
    return request("GET", f"/v1/threads/{run['thread_id']}/runs/{run['id']}")


@asynccontextmanager
async def polling(target: Target, asked: Request) -> AsyncGenerator[list[float]]:
    """Ask again and again while the block runs, and note the seconds that each answer took."""
    latencies: list[float] = []

    async def poll() -> None:
        async with connected(target.serving.port) as connection:
            while True:
                latencies.append(await connection.timed(asked))
                await asyncio.sleep(POLL_EVERY)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(poll())
        yield latencies
        task.cancel()


async def runs(pair: Pair, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(c) Whole runs: thread, message, run, stream to its end."""
    for clients in CLIENTS:
        each = sizes.runs // clients
        done = await rounds(pair, sizes, tokens=20, clients=clients, each=each)
        name = f"run of 20 tokens, {clients_of(clients)}"
        yield Figure(
            f"{name}, served", median(one.done.per_second for one in done.served), "runs/s"
        )
        yield Figure(f"{name}, share of direct", done.share, "")
        yield Figure(f"{name}, CPU", done.cpu_a_stream * MS, "ms")


async def requests(pair: Pair, minimal: Serving, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(d) Small requests beside the same ones of a minimal app."""
    ours = await three_requests(pair.served)
    for name, asked in ours.items():
        for clients in CLIENTS:
            each = sizes.requests // clients
            label = f"{name}, {clients_of(clients)}"
            costs: dict[str, float] = {}
            for serving, kind in ((minimal, " of the minimal app"), (pair.served.serving, "")):
                one = THEIRS[name] if serving is minimal else asked
                cpu, speed = await cost(serving, one, sizes, clients=clients, each=each)
                costs[kind] = cpu
                yield Figure(f"{label}, answers{kind}", speed, "/s")
                yield Figure(f"{label}, CPU{kind}", cpu * MS, "ms")


THEIRS = {
    "GET run": request("GET", "/threads/thread_1/runs/run_1"),
    "POST message": request(
        "POST", "/threads/thread_1/messages", {"role": "user", "content": "How are you?"}
    ),
    "list 20": request("GET", "/threads/thread_1/messages"),
}


async def three_requests(target: Target) -> dict[str, Request]:
    async with connected(target.serving.port) as connection:
        thread = await make_thread(connection, 20)
    return {
        "GET run": await a_run(target),
        "POST message": request("POST", f"/v1/threads/{thread}/messages", message("How are you?")),
        "list 20": request("GET", f"/v1/threads/{thread}/messages?limit=20"),
    }


def message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def make_thread(connection: Connection, messages: int) -> str:
    thread = await connection.ask(request("POST", "/v1/threads", {}))
    added = request("POST", f"/v1/threads/{thread['id']}/messages", message("How are you?"))
    for _ in range(messages):
        await connection.ask(added)
    return thread["id"]


async def cost(
    serving: Serving, asked: Request, sizes: Sizes, *, clients: int, each: int
) -> tuple[float, float]:
    """Processor seconds for one answer, and answers a second."""
    await load(serving.port, lambda c: c.ask(asked), clients=clients, each=1)
    before, began, count = serving.cpu(), time.perf_counter(), 0
    for _ in range(sizes.rounds):
        done = await load(serving.port, lambda c: c.ask(asked), clients=clients, each=each)
        count += len(done.results)
    return (serving.cpu() - before) / count, count / (time.perf_counter() - began)


async def rest(upstream: Serving, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(e) What a server costs that nobody uses, and what its start costs."""
    empty: list[tuple[float, float]] = []
    existing: list[tuple[float, float]] = []
    memory: list[float] = []
    for _ in range(sizes.starts):
        with tempfile.TemporaryDirectory() as folder:
            for results in (empty, existing):
                began = time.perf_counter()
                with server(upstream.port, Path(folder)) as started:
                    async with connected(started.port) as connection:
                        await connection.ask(request("GET", "/healthz"))
                    results.append((started.cpu(), time.perf_counter() - began))
                    await asyncio.sleep(sizes.rest)
                    memory.append(started.pss())
    for name, results in (("empty", empty), ("existing", existing)):
        label = f"cold start, {name} data directory"
        yield Figure(f"{label}, CPU", median(cpu for cpu, _ in results), "s")
        yield Figure(f"{label}, wall", median(wall for _, wall in results), "s")
    yield Figure("memory at rest", median(memory), "MiB PSS")


async def after_load(pair: Pair) -> AsyncGenerator[Figure]:
    """(e) What stays after all other measures."""
    yield Figure("memory after load", pair.served.serving.pss(), "MiB PSS")


async def long_threads(pair: Pair, sizes: Sizes) -> AsyncGenerator[Figure]:
    """(f) What a thread's length costs when the same part of it is shown."""
    served = pair.served
    async with connected(served.serving.port) as connection:
        assistant = await make_assistant(connection)
    for length in sizes.threads:
        name = f"thread of {length:,} messages"
        thread, middle = await filled_thread(served, length)
        pages = f"/v1/threads/{thread}/messages?limit=20"
        for label, path in (("newest page", ""), ("page in the middle", f"&after={middle}")):
            asked = request("GET", pages + path)
            cpu, _ = await cost(served.serving, asked, sizes, clients=1, each=sizes.requests // 8)
            yield Figure(f"{name}, {label}, CPU", cpu * MS, "ms")
        run = run_of(thread, assistant)
        before = served.serving.cpu()
        done = await load(
            served.serving.port, lambda c, r=run: c.stream(r), clients=1, each=sizes.thread_runs
        )
        cpu = (served.serving.cpu() - before) / len(done.results)
        first = percentile([one.first for one in done.results], 0.5)
        yield Figure(f"{name}, run that is shown 10, CPU", cpu * MS, "ms")
        yield Figure(f"{name}, run that is shown 10, first token p50", first * MS, "ms")


def run_of(thread: str, assistant: str) -> Request:
    """A run that is shown the ten newest messages, whatever the thread's length."""
    body: dict[str, Any] = {
        "assistant_id": assistant,
        "stream": True,
        "truncation_strategy": {"type": "last_messages", "last_messages": 10},
        "additional_messages": [message("[[tokens:5]]")],
    }
    return request("POST", f"/v1/threads/{thread}/runs", body, b"event: thread.message.delta\n")


async def filled_thread(target: Target, length: int) -> tuple[str, str]:
    """A thread and the id of a message in its middle."""
    async with connected(target.serving.port) as connection:
        thread = await make_thread(connection, 0)
    added = request("POST", f"/v1/threads/{thread}/messages", message("How are you?"))
    clients = min(10, length)
    done = await load(
        target.serving.port, lambda c: c.ask(added), clients=clients, each=length // clients
    )
    return thread, done.results[len(done.results) // 2]["id"]
