"""An open-loop load: requests leave when their time has come, whether or not earlier ones were answered."""

import asyncio
import itertools
import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from benchmarks.figures import percentile
from benchmarks.load import Request

MAX_CONNECTIONS = 4000
GIVEN_UP = 599
"""The status of a request that was not answered."""
TICK = 0.005


@dataclass(frozen=True)
class Answered:
    """One answer: what was asked, when (seconds after the load's begin), and how it went."""

    kind: str
    at: float
    seconds: float
    status: int
    retry_after: bool
    body: bytes


@dataclass
class Outcome:
    """What came of a load."""

    answers: list[Answered] = field(default_factory=list[Answered])
    lag: float = 0.0
    """The most by which a request left too late: the load generator's own fault."""

    @property
    def accepted(self) -> Sequence[Answered]:
        return [one for one in self.answers if one.status == 200]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.answers)

    @property
    def refused(self) -> Sequence[Answered]:
        return [one for one in self.answers if one.status in (429, 503)]

    @property
    def mute(self) -> int:
        """Refusals that do not say when to come back."""
        return sum(not one.retry_after for one in self.refused)

    def since(self, second: float) -> "Outcome":
        """What was asked from then on."""
        return Outcome([one for one in self.answers if one.at >= second], self.lag)

    def slowest(self, share: float) -> float:
        return percentile([one.seconds for one in self.accepted] or [0.0], share)


def evenly(rate: float, seconds: float) -> Sequence[float]:
    """When requests leave: seconds after the begin."""
    return [number / rate for number in range(int(rate * seconds))]


def at_random(rate: float, seconds: float) -> Sequence[float]:
    """The same, as many people who know nothing of each other ask: now and then some meet."""
    dice = random.Random(8484)
    times = itertools.accumulate(dice.expovariate(rate) for _ in itertools.repeat(None))
    return list(itertools.takewhile(lambda time: time < seconds, times))


class Client(asyncio.Protocol):
    """A kept-alive connection: one request at a time, parsed just enough."""

    def __init__(self, done: Callable[["Client", int, bytes, bytes], None]) -> None:
        self._done = done
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def ask(self, request: Request) -> None:
        assert self._transport is not None
        self.is_busy = True
        self._transport.write(request.content)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        size = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) < size:
            return
        self._buffer = body[size:]
        self.is_busy = False
        self._done(self, int(head[9:12]), lower, body[:size])

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self.is_busy:
            self.is_busy = False
            self._done(self, GIVEN_UP, b"", b"")


class Load:
    """Requests in turn, each when its time has come, on connections to all ports alike."""

    def __init__(self, ports: Sequence[int], kinds: Sequence[tuple[str, Request]]) -> None:
        self._ports = itertools.cycle(ports)
        self._kinds = kinds
        self._idle: list[Client] = []
        self._asked: dict[Client, tuple[str, float]] = {}
        self._outcome = Outcome()
        self._began = 0.0

    async def run(self, arrivals: Sequence[float], *, patience: float = 20.0) -> Outcome:
        self._outcome = outcome = Outcome()
        self._began = began = time.perf_counter()
        sent = 0
        async with asyncio.TaskGroup() as tasks:
            while sent < len(arrivals):
                elapsed = time.perf_counter() - began
                due = bisect_right(arrivals, elapsed)
                if sent < due:
                    outcome.lag = max(outcome.lag, elapsed - arrivals[sent])
                for _ in range(due - sent):
                    self._send(tasks, *self._kinds[sent % len(self._kinds)])
                    sent += 1
                await asyncio.sleep(TICK)
        deadline = time.perf_counter() + patience
        while self._asked and time.perf_counter() < deadline:  # noqa: ASYNC110 - answers come in by the thousand
            await asyncio.sleep(0.01)
        for client in [*self._asked]:
            client.abort()
        await asyncio.sleep(0.05)
        return outcome

    def close(self) -> None:
        for client in self._idle:
            client.abort()
        self._idle.clear()

    def _send(self, tasks: asyncio.TaskGroup, kind: str, request: Request) -> None:
        while self._idle:
            client = self._idle.pop()
            if client.is_open:
                self._ask(client, kind, request)
                return
        if len(self._asked) < MAX_CONNECTIONS:
            tasks.create_task(self._open(kind, request))
        else:
            self._outcome.answers.append(Answered(kind, self._now, 0.0, GIVEN_UP, False, b""))

    async def _open(self, kind: str, request: Request) -> None:
        loop = asyncio.get_running_loop()
        at = time.perf_counter()
        try:
            _, client = await loop.create_connection(
                lambda: Client(self._answered), "127.0.0.1", next(self._ports)
            )
        except OSError:
            self._outcome.answers.append(Answered(kind, self._now, 0.0, GIVEN_UP, False, b""))
        else:
            self._ask(client, kind, request, at)

    def _ask(self, client: Client, kind: str, request: Request, at: float | None = None) -> None:
        self._asked[client] = (kind, at or time.perf_counter())
        client.ask(request)

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _answered(self, client: Client, status: int, head: bytes, body: bytes) -> None:
        kind, at = self._asked.pop(client)
        seconds = time.perf_counter() - at
        has = b"\r\nretry-after: " in head
        kept = body if kind == "run" and status == 200 else b""
        self._outcome.answers.append(Answered(kind, at - self._began, seconds, status, has, kept))
        if client.is_open:
            self._idle.append(client)
