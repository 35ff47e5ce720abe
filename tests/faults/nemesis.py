"""Those who disturb. Each works until cancelled and then puts right what it has done; what it did is recorded."""

import asyncio
import itertools
import random
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import httpx2

from tests.faults.arena import START, Arena
from tests.faults.history import Fault, Recovery, now
from tests.faults.power import take
from tests.faults.processes import Process, Server, until
from tests.faults.proxy import Mode

LOOK_EVERY = 0.05
PATIENCE = 60.0
PICTURES = 8
POINT_PATIENCE = 30.0
"""Seconds within which a process that is ready comes to its point, or is sent to the next one."""
RUN_POINTS = (
    "run.claimed:2",
    "run.asking:2",
    "run.delta:1",
    "run.delta:30",
    "run.answered:2",
    "run.concluded:2",
    "run.tool:1",
    "run.stopping:1",
)
INGESTION_POINTS = (
    "ingestion.claimed:1",
    "ingestion.parsed:2",
    "ingestion.stored:1",
    "ingestion.completing:1",
)
API_POINTS = ("file.written:1", "idempotency.committed:3")


@dataclass(frozen=True)
class Pace:
    """Seconds between faults, and for which a fault lasts."""

    kill: float = 1.0
    freeze: float = 60.0
    lease: float = 15.0
    """That of runs: a worker which wakes when they are just being taken over is worse than one that sleeps long."""
    restart: float = 5.0
    last: float = 5.0
    hold: float = 10.0
    """Every third time it is four times as long: longer than SQLite has patience with whoever writes."""
    mishap: float = 20.0


@asynccontextmanager
async def disturbed(arena: Arena, name: str, pace: Pace) -> AsyncGenerator[None]:
    """The named nemesis at work; afterwards all is well again."""
    async with asyncio.TaskGroup() as probes:
        working = probes.create_task(NEMESES[name](arena, pace, probes))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait([working])
        await arena.ready()


async def kill(arena: Arena, pace: Pace, probes: asyncio.TaskGroup) -> None:
    """`kill -9` of any process, which is started again at once."""
    while True:
        await asyncio.sleep(pace.kill)
        victim = random.choice(arena.processes)
        note(arena, "kill", victim)
        victim.kill()
        victim.start()
        if isinstance(victim, Server):
            probes.create_task(back(arena, victim))


async def back(arena: Arena, server: Server) -> None:
    """Measure how long a killed API takes to answer again, unless it is killed again meanwhile."""
    began, pid = now(), server.pid
    async with httpx2.AsyncClient(timeout=2.0) as http:
        while server.pid == pid and now() < began + PATIENCE:
            if await answers(http.get(f"http://127.0.0.1:{server.port}/healthz")):
                arena.history.add(Recovery("API: kill to first answer", now() - began))
                return
            await asyncio.sleep(LOOK_EVERY)


async def answers(request: Awaitable[httpx2.Response]) -> bool:
    try:
        return (await request).is_success
    except httpx2.TransportError:
        return False


async def freeze(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """A worker stands still and then goes on as if nothing had been."""
    while True:
        victim = random.choice(arena.workers)
        await asyncio.sleep(min(pace.freeze / 4, pace.last))
        note(arena, "freeze", victim)
        victim.pause()
        try:
            await asyncio.sleep(
                random.choice((pace.freeze, random.uniform(2 / 3, 6 / 5) * pace.lease))
            )
        finally:
            victim.resume()


async def points(arena: Arena, _: Pace, __: asyncio.TaskGroup) -> None:
    """Two workers and an API die at each named point of the code, one after the other; the others live."""
    async with asyncio.TaskGroup() as victims:
        for victim, sweep in (
            (arena.workers[0], RUN_POINTS),
            (arena.workers[1], INGESTION_POINTS + RUN_POINTS),
            (arena.apis[0], API_POINTS),
        ):
            victims.create_task(die_at_each(arena, victim, sweep))


async def die_at_each(arena: Arena, victim: Process, sweep: Sequence[str]) -> None:
    try:
        for place in itertools.cycle(random.sample(sweep, len(sweep))):
            victim.kill()
            victim.start({"THREADLOOM_FAULT": f"{place}:kill"})
            with suppress(AssertionError):  # it came to its point before that
                await victim.ready(within=START)
            with suppress(AssertionError):  # nobody came by
                await until(
                    lambda: not victim.alive, place, within=POINT_PATIENCE, every=LOOK_EVERY
                )
                arena.history.add(Fault("points", f"{place} in {arena.name(victim)}", now()))
    finally:
        victim.kill()
        victim.start()


async def database(arena: Arena, pace: Pace, probes: asyncio.TaskGroup) -> None:
    """PostgreSQL crashes and recovers."""
    assert arena.cluster is not None
    while True:
        arena.history.add(Fault("database", "postgres", now()))
        await finished(arena.cluster.restart)
        for number in range(len(arena.apis)):
            probes.create_task(writes(arena, number, "database: accepts to first write"))
        await asyncio.sleep(pace.restart)


async def writes(arena: Arena, number: int, what: str) -> None:
    """Measure how long an API needs until it can write again."""
    began = now()
    headers = {"Authorization": f"Bearer {arena.keys['a']}"}
    async with httpx2.AsyncClient(timeout=5.0, headers=headers) as http:
        while now() < began + PATIENCE:
            if await answers(http.post(f"{arena.servers[number]}/threads", json={})):
                arena.history.add(Recovery(what, now() - began))
                return
            await asyncio.sleep(LOOK_EVERY)


async def finished(action: Callable[[], object]) -> None:
    """In a thread, and seen through when we are cancelled."""
    doing = asyncio.ensure_future(asyncio.to_thread(action))
    try:
        await asyncio.shield(doing)
    finally:
        await doing


async def disk(arena: Arena, pace: Pace, probes: asyncio.TaskGroup) -> None:
    """The database's disk is full, and free again."""
    assert arena.disk is not None, "this needs the right to mount"
    assert arena.cluster is not None
    while True:
        await asyncio.sleep(pace.last / 2)
        arena.history.add(Fault("disk", "postgres", now()))
        try:
            await finished(arena.disk.fill)
            await asyncio.sleep(pace.last)
        finally:
            arena.disk.free()
            await finished(arena.cluster.revive)
        for number in range(len(arena.apis)):
            probes.create_task(writes(arena, number, "disk: space to first write"))


async def upstream(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """The model hangs, breaks off, babbles, fails and refuses."""
    kinds = ("hangs", "stops", "cut", "babbles", "fails", "refuses")
    try:
        while True:
            arena.model.trouble = tuple(random.sample(kinds, 3))
            arena.history.add(Fault("upstream", ", ".join(arena.model.trouble), now()))
            await asyncio.sleep(pace.last)
            arena.model.trouble = ()
            await asyncio.sleep(pace.last / 4)
    finally:
        arena.model.trouble = ()


async def storage(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """The object store is away, silent, slow or out of order."""
    assert arena.storage is not None
    try:
        while True:
            for mode in cast(tuple[Mode, ...], ("unavailable", "refuses", "slow", "hangs")):
                arena.history.add(Fault("storage", mode, now()))
                arena.storage.become(mode)
                await asyncio.sleep(pace.last)
                arena.storage.become("passes")
                await asyncio.sleep(pace.last / 2)
    finally:
        arena.storage.become("passes")


async def clock(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """An API's and a worker's clocks jump by an hour, ahead and back."""
    assert arena.clock is not None
    try:
        while True:
            for offset in ("+1h", "+0", "-1h", "+0"):
                await asyncio.sleep(pace.last)
                arena.history.add(Fault("clock", offset, now()))
                arena.clock.set(offset)
    finally:
        arena.clock.set("+0")


async def held(arena: Arena, pace: Pace, probes: asyncio.TaskGroup) -> None:
    """Another program has SQLite's file for itself."""
    path = arena.url.removeprefix("sqlite:///")
    for number in itertools.count(1):
        with closing(sqlite3.connect(path, timeout=60, check_same_thread=False)) as other:
            await finished(partial(other.execute, "BEGIN EXCLUSIVE"))
            arena.history.add(Fault("held", "sqlite", now()))
            await asyncio.sleep(pace.hold if number % 3 else 4 * pace.hold)
        probes.create_task(writes(arena, 0, "SQLite: let go to first write"))
        await asyncio.sleep(pace.last)


async def power(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """Pictures of SQLite's files, as they would be on the disk if the power went: they are judged in the end."""
    path = Path(arena.url.removeprefix("sqlite:///"))
    shelf = arena.folder.with_name(f"{arena.folder.name}-pictures")
    for number in itertools.count():
        await asyncio.sleep(pace.last)
        if number < PICTURES:
            server = arena.apis[0]
            server.pause()
            try:
                await until(partial(stands_still, server), "it stands still", every=LOOK_EVERY)
                arena.pictures.append(take(path, shelf / str(number), now()))
            finally:
                server.resume()
            note(arena, "power", server)


def stands_still(process: Process) -> bool:
    """All threads of it, the writer among them."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


async def mishaps(arena: Arena, pace: Pace, _: asyncio.TaskGroup) -> None:
    """What goes by and ends nobody, now and then: whoever leaks something with each of them grows and grows."""
    assert arena.cluster is not None
    assert arena.storage is not None
    for kind in itertools.cycle(("database", "upstream", "freeze", "storage")):
        await asyncio.sleep(pace.mishap)
        arena.history.add(Fault("mishaps", kind, now()))
        victim = random.choice(arena.workers)
        match kind:
            case "database":
                await finished(arena.cluster.restart)
            case "upstream":
                arena.model.trouble = ("hangs", "cut", "fails")
            case "freeze":
                victim.pause()
            case _:
                arena.storage.become("unavailable")
        try:
            await asyncio.sleep(pace.last)
        finally:
            arena.model.trouble = ()
            victim.resume()
            arena.storage.become("passes")


def note(arena: Arena, nemesis: str, victim: Process) -> None:
    arena.history.add(Fault(nemesis, arena.name(victim), now()))


NEMESES: dict[str, Callable[[Arena, Pace, asyncio.TaskGroup], Coroutine[None, None, None]]] = {
    "kill": kill,
    "points": points,
    "freeze": freeze,
    "database": database,
    "disk": disk,
    "upstream": upstream,
    "storage": storage,
    "clock": clock,
    "mishaps": mishaps,
    "held": held,
    "power": power,
}
