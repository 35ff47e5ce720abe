"""Sandboxes that are kept ready, and the starting of all others."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from threadloom.sandbox.chores import Chores
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.session import SandboxLost, SandboxUnavailable
from threadloom.telemetry import metrics

log = structlog.stdlib.get_logger()

AT_ONCE = 4
"""Starts, each of which costs a processor for a second."""
START_SECONDS = 60.0
"""Whoever waits for a sandbox waits no longer after the last one that has started, whoever got it."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, eq=False)
class Launched:
    """A driver that is ready, and how to end what it runs in."""

    kernel: Kernel
    close: Callable[[], Coroutine[Any, Any, None]]


class Launcher(Protocol):
    """Starts sandboxes. A `launch` that is cancelled leaves nothing behind."""

    async def launch(self) -> Launched:
        """Raises SandboxUnavailable."""
        ...

    async def check(self) -> str | None:
        """Why there will be none: a sentence for people."""
        ...

    async def sweep(self) -> None:
        """Remove what processes that are gone have left."""
        ...

    async def close(self) -> None: ...


class Pool:
    """Keeps `size` spares, from `fill` on or once a start has succeeded.

    A start belongs to nobody: what comes of it goes to whoever waits longest, or becomes a spare. Spares are renewed when
    they are `life` seconds old, so that no sandbox ever runs longer than two lives.
    """

    def __init__(self, launcher: Launcher, size: int, life: float) -> None:
        self._launcher = launcher
        self._size = size
        self._life = life
        self._spares: dict[Launched, asyncio.TimerHandle] = {}
        self._waiting = deque[asyncio.Future[Launched]]()
        self._starts = set[asyncio.Task[Launched]]()
        self._started_in_all = 0
        self._few = asyncio.Semaphore(AT_ONCE)
        self._chores = Chores()
        self._filling = False
        self._pause = FIRST_PAUSE
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def spares(self) -> int:
        return len(self._spares)

    def fill(self) -> None:
        self._filling = True
        self._start_missing()

    async def take(self) -> Launched:
        """A sandbox that nobody has used. Raises SandboxUnavailable."""
        while self._spares:
            spare = next(iter(self._spares))
            self._spares.pop(spare).cancel()
            self._start_missing()
            try:
                await spare.kernel.ping()
            except SandboxLost:
                self._chores.add(spare.close())
            except BaseException:
                self._chores.add(spare.close())
                raise
            else:
                return spare
        return await self._started()

    async def _started(self) -> Launched:
        if self._closed:
            raise SandboxUnavailable("The server is shutting down.")
        waiter: asyncio.Future[Launched] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._start_missing()
        try:
            await self._wait(waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.exception():
                self._deliver(waiter.result())
            waiter.cancel()
            raise
        if not waiter.done():
            waiter.cancel()
            raise SandboxUnavailable("No sandbox has started in time; try again later.")
        return waiter.result()

    async def _wait(self, waiter: asyncio.Future[Launched]) -> None:
        """Until it is served, or none has started for too long: many who come at once wait for each other."""
        started = -1
        while not waiter.done() and self._started_in_all > started:
            started = self._started_in_all
            await asyncio.wait([waiter], timeout=START_SECONDS)

    def _start_missing(self) -> None:
        wanted = sum(not waiter.done() for waiter in self._waiting)
        if self._filling and self._retry is None:
            wanted += self._size - len(self._spares)
        for _ in range(wanted - len(self._starts)):
            start = asyncio.create_task(self._start())
            self._starts.add(start)
            start.add_done_callback(self._ended)

    async def _start(self) -> Launched:
        async with self._few:
            return await self._launcher.launch()

    def _ended(self, start: asyncio.Task[Launched]) -> None:
        self._starts.discard(start)
        if start.cancelled():
            return
        if error := start.exception():
            metrics.SANDBOX_STARTS.add(outcome="failed")
            self._failed(error)
        else:
            metrics.SANDBOX_STARTS.add(outcome="started")
            self._deliver(start.result())
        if not self._closed:
            self._start_missing()

    def _deliver(self, launched: Launched) -> None:
        self._started_in_all += 1
        self._pause = FIRST_PAUSE
        self._filling = not self._closed
        if waiter := self._next_waiter():
            waiter.set_result(launched)
        elif self._filling and len(self._spares) < self._size:
            loop = asyncio.get_running_loop()
            self._spares[launched] = loop.call_later(self._life, self._retire, launched)
        else:
            self._chores.add(launched.close())

    def _failed(self, error: BaseException) -> None:
        if waiter := self._next_waiter():
            waiter.set_exception(error)
        elif self._pause == FIRST_PAUSE:
            log.warning("no sandbox could be started", reason=str(error))
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self._pause, self._start_again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _start_again(self) -> None:
        self._retry = None
        self._start_missing()

    def _next_waiter(self) -> asyncio.Future[Launched] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _retire(self, spare: Launched) -> None:
        del self._spares[spare]
        self._chores.add(spare.close())
        self._start_missing()

    async def close(self) -> None:
        self._closed = True
        self._filling = False
        if self._retry:
            self._retry.cancel()
        for start in self._starts:
            start.cancel()
        while waiter := self._next_waiter():
            waiter.set_exception(SandboxUnavailable("The server is shutting down."))
        for spare, alarm in self._spares.items():
            alarm.cancel()
            self._chores.add(spare.close())
        self._spares.clear()
        if self._starts:
            await asyncio.wait(self._starts)
        await self._chores.done()
