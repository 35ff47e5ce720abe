"""Who has which sandbox: `Sandbox` for kernels that a launcher starts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.chores import Chores
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.pool import Launched, Launcher, Pool
from threadloom.sandbox.session import SandboxLost, SandboxUnavailable
from threadloom.telemetry import metrics

log = structlog.stdlib.get_logger()

CLOSE_SECONDS = 10.0
"""After so long the rest is left to end by itself, as sandboxes do whose process is gone."""
PATIENCE = 10.0
"""Seconds to wait for a sandbox to become free when all are in use."""


@dataclass(eq=False)
class Place:
    """One of the `max_sessions`; it is taken before there is a sandbox in it."""

    key: str
    launched: Launched | None = None
    busy: bool = True
    old: bool = False
    """Its life is over: it is ended as soon as its user leaves."""
    idle: asyncio.TimerHandle | None = None
    life: asyncio.TimerHandle | None = None
    ending: asyncio.Task[None] | None = None

    @property
    def channel(self) -> Channel | None:
        return self.launched and self.launched.kernel.channel


class Sessions:
    """Keeps a kernel for each key.

    A kernel in a caller's hands may also be used through its `channel`, frame by frame, as the runner does for a process
    elsewhere: the caller can leave at any time, and what it left under way is ended in the background, before the next
    caller of the key comes.
    """

    def __init__(self, settings: CodeInterpreter, launcher: Launcher) -> None:
        self._settings = settings
        self._launcher = launcher
        self._pool = Pool(launcher, settings.pool, settings.life)
        self._places: dict[str, Place] = {}
        self._locks = WeakValueDictionary[str, asyncio.Lock]()
        self._door = asyncio.Lock()
        self._changed = asyncio.Event()
        self._chores = Chores()
        self._closed = False

    async def start(self) -> str | None:
        """Remove leftovers and fill the pool, or say in a sentence why that makes no sense now."""
        problem = await self._launcher.check()
        if problem is None:
            await self.sweep()
            self._pool.fill()
        return problem

    async def sweep(self) -> None:
        """Remove what processes that are gone have left; now and then."""
        await self._launcher.sweep()

    @asynccontextmanager
    async def session(self, key: str) -> AsyncGenerator[Kernel]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        await lock.acquire()
        try:
            yield await self._kept(key) or await self._new(key)
        finally:
            self._leave(key, lock)

    async def keys(self) -> Sequence[str]:
        return list(self._places)

    async def end(self, key: str) -> None:
        if place := self._places.get(key):
            await asyncio.shield(self._end(place))

    async def close(self) -> None:
        """End all of them, spares included."""
        if self._closed:
            return
        self._closed = True
        for place in list(self._places.values()):
            self._end(place)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
                await self._chores.done()
                await self._launcher.close()
        except TimeoutError:
            log.warning("not all sandboxes were removed in time")

    async def _kept(self, key: str) -> Kernel | None:
        place = self._places.get(key)
        if place is None or place.launched is None:
            return None
        place.busy = True
        if place.idle:
            place.idle.cancel()
        kernel = place.launched.kernel
        try:
            await kernel.ping()
        except SandboxLost:
            self._end(place)
            return None
        kernel.fresh = False
        return kernel

    async def _new(self, key: str) -> Kernel:
        place = await self._free_place(key)
        launched = await self._pool.take()
        if self._places.get(key) is not place:
            self._chores.add(launched.close())
            raise SandboxUnavailable("The sandbox was ended while it started.")
        place.launched = launched
        limits = self._settings
        try:
            await launched.kernel.claim(limits.idle, limits.life)
        except SandboxLost:
            raise SandboxUnavailable("The sandbox ended while it started.") from None
        place.life = asyncio.get_running_loop().call_later(limits.life, self._outlive, place)
        return launched.kernel

    async def _free_place(self, key: str) -> Place:
        try:
            async with asyncio.timeout(PATIENCE), self._door:
                while len(self._places) >= self._settings.max_sessions:
                    self._changed.clear()
                    if longest_idle := next(filter(is_idle, self._places.values()), None):
                        self._end(longest_idle)
                    else:
                        await self._changed.wait()
        except TimeoutError:
            number = self._settings.max_sessions
            sentence = f"All {number} sandboxes of this server are busy; try again later."
            raise SandboxUnavailable(sentence) from None
        if self._closed:
            raise SandboxUnavailable("The server is shutting down.")
        place = self._places[key] = Place(key)
        metrics.SANDBOX_SESSIONS.change(1)
        return place

    def _leave(self, key: str, lock: asyncio.Lock) -> None:
        place = self._places.get(key)
        if place and place.channel and not place.channel.settled and place.channel.lost is None:
            self._chores.add(self._settle(place, place.channel, lock))
            return
        if place:
            self._put_back(place)
        lock.release()

    async def _settle(self, place: Place, channel: Channel, lock: asyncio.Lock) -> None:
        try:
            await channel.settle()
        except SandboxLost:
            pass
        except BaseException:
            channel.close()
            raise
        finally:
            if self._places.get(place.key) is place:
                self._put_back(place)
            lock.release()

    def _put_back(self, place: Place) -> None:
        """It is now the one that was used last."""
        channel = place.channel
        if channel is None or channel.lost is not None or not channel.executed or place.old:
            self._end(place)
            return
        place.busy = False
        place.idle = asyncio.get_running_loop().call_later(self._settings.idle, self._end, place)
        self._places[place.key] = self._places.pop(place.key)
        self._changed.set()

    def _outlive(self, place: Place) -> None:
        place.old = True
        if not place.busy:
            self._end(place)

    def _end(self, place: Place) -> asyncio.Task[None]:
        if place.ending is None:
            del self._places[place.key]
            metrics.SANDBOX_SESSIONS.change(-1)
            self._changed.set()
            for alarm in (place.idle, place.life):
                if alarm:
                    alarm.cancel()
            place.ending = self._chores.add(close(place))
        return place.ending


async def close(place: Place) -> None:
    if place.launched:
        await place.launched.close()


def is_idle(place: Place) -> bool:
    return not place.busy
