"""Where the suite is played: several API and worker processes, PostgreSQL, an object store and a model of their own."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.faults.cluster import Cluster, Disk, running_cluster, some_disk
from tests.faults.history import History, Sample, now
from tests.faults.model import Model
from tests.faults.processes import COMMAND, KEY, Fleet, Process, Server
from tests.faults.proxy import Proxy
from tests.support.process import environment
from tests.support.s3 import BUCKET, KEYS, running_s3

EXPIRES_AFTER = 300.0
SETTINGS = {
    "THREADLOOM_RUNS__EXPIRES_AFTER": f"{EXPIRES_AFTER}s",
    "THREADLOOM_MODELS__FIRST_TOKEN_TIMEOUT": "3s",
    "THREADLOOM_MODELS__IDLE_TIMEOUT": "3s",
    "THREADLOOM_EMBEDDINGS__MODEL": "scripted",
    "THREADLOOM_STORAGE__URL": f"s3://{BUCKET}/suite",
    **{f"THREADLOOM_STORAGE__S3__{name.upper()}": value for name, value in KEYS.items()},
}
SAMPLE_EVERY = 1.0
START = 120.0
"""Seconds that all processes may take to start at once: each takes one of processor time or two."""
OBJECT = re.compile(r"<Key>suite/([^<]+)</Key>")


def faketime() -> Path | None:
    """Debian's library that lies about the time, if it is installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@dataclass
class Clock:
    """The time of the processes that were started with it."""

    file: Path

    def set(self, offset: str) -> None:
        """`+0`, `+1h`, `-1h`."""
        self.file.write_text(f"{offset}\n")

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@dataclass
class Arena:
    """All that a nemesis may get at."""

    folder: Path
    history: History
    model: Model
    storage: Proxy
    cluster: Cluster
    disk: Disk | None
    clock: Clock | None
    keys: dict[str, str]
    apis: list[Server] = field(default_factory=list[Server])
    workers: list[Process] = field(default_factory=list[Process])
    names: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    @property
    def servers(self) -> list[str]:
        return [f"http://127.0.0.1:{api.port}/v1" for api in self.apis]

    def name(self, process: Process) -> str:
        return process.log.stem

    async def ready(self) -> None:
        await asyncio.gather(*(process.ready(within=START) for process in self.processes))

    async def watch(self) -> None:
        """Sample the memory of all processes until cancelled."""
        while True:
            for process in self.processes:
                if rss := rss_of(process):
                    self.history.add(Sample(self.name(process), now(), rss))
            await asyncio.sleep(SAMPLE_EVERY)

    async def objects(self, store: str) -> frozenset[str]:
        """The keys of all objects in the store."""
        found: list[str] = []
        page = [""]
        async with httpx2.AsyncClient() as http:
            while page:
                after = f"suite/{found[-1]}" if found else ""
                query = {"list-type": "2", "start-after": after}
                page = OBJECT.findall((await http.get(f"{store}/{BUCKET}", params=query)).text)
                found += page
        return frozenset(found)


def rss_of(process: Process) -> int:
    """Bytes; 0 when it is not there."""
    try:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    except (OSError, AssertionError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def open_arena(
    folder: Path, history: History, *, apis: int, workers: int, lease: float, nemeses: Sequence[str]
) -> AsyncGenerator[tuple[Arena, str]]:
    """An arena that is ready, and the address of its object store."""
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(some_disk()) if "disk" in nemeses else None
        cluster = stack.enter_context(running_cluster(disk))
        store = stack.enter_context(running_s3())
        model = await stack.enter_async_context(Model(history=history))
        storage = await stack.enter_async_context(Proxy(int(store.rpartition(":")[2])))
        settings = SETTINGS | {
            "THREADLOOM_RUNS__LEASE": f"{lease}s",
            "THREADLOOM_EMBEDDINGS__BASE_URL": model.base_url,
            "THREADLOOM_STORAGE__S3__ENDPOINT": f"http://127.0.0.1:{storage.port}",
        }
        clock = Clock(folder / "offset") if "clock" in nemeses else None
        fleet = Fleet(folder, cluster.url, model.base_url)
        stack.callback(fleet.stop)
        keys = {"a": KEY, "b": create_key(folder, cluster.url, "b")}
        arena = Arena(folder, history, model, storage, cluster, disk, clock, keys)
        if clock:
            clock.set("+0")
        for number in range(apis):
            jumps = clock.variables if clock and number == 0 else {}
            arena.apis.append(fleet.serve(settings | jumps, with_worker=False))
        for number in range(workers):
            jumps = clock.variables if clock and number == 0 else {}
            arena.workers.append(fleet.worker("abcdefgh"[number], settings | jumps))
        await arena.ready()
        yield arena, store


def create_key(folder: Path, database_url: str, project: str) -> str:
    """A key of that project; this also makes the database's tables."""
    variables = environment(THREADLOOM_DATA_DIR=str(folder), THREADLOOM_DATABASE__URL=database_url)
    done = subprocess.run(
        [COMMAND, "keys", "create", "--project", project],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
