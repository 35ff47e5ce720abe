"""Where the suite is played: processes, a database, a store of files, a model and receivers of webhooks of their own."""

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

import httpx2
from sqlalchemy.exc import SQLAlchemyError

from tests.faults.cluster import Cluster, Disk, running_cluster, some_disk
from tests.faults.history import History
from tests.faults.listener import Listener
from tests.faults.model import Model
from tests.faults.power import Picture
from tests.faults.processes import COMMAND, KEY, Fleet, Process, Server, until
from tests.faults.proxy import Proxy
from tests.faults.watching import sample_of, stock_of
from tests.support.postgres import sqlalchemy_url
from tests.support.process import environment
from tests.support.receiver import reached
from tests.support.s3 import BUCKET, KEYS, running_s3
from threadloom.db.engine import create_engine
from threadloom.outbox import BELIEVED_FOR

EXPIRES_AFTER = 300.0
SETTINGS = {
    "THREADLOOM_RUNS__EXPIRES_AFTER": f"{EXPIRES_AFTER}s",
    "THREADLOOM_MODELS__FIRST_TOKEN_TIMEOUT": "3s",
    "THREADLOOM_MODELS__IDLE_TIMEOUT": "3s",
    "THREADLOOM_EMBEDDINGS__MODEL": "scripted",
    "THREADLOOM_OUTBOUND__ALLOW": '["127.0.0.0/8"]',
    "THREADLOOM_WEBHOOKS__PAUSE": "200ms",
    "THREADLOOM_WEBHOOKS__TIMEOUT": "2s",
}
IN_S3 = {
    "THREADLOOM_STORAGE__URL": f"s3://{BUCKET}/suite",
    **{f"THREADLOOM_STORAGE__S3__{name.upper()}": value for name, value in KEYS.items()},
}
SAMPLE_EVERY = 1.0
STOCK_EVERY = 5
"""Samples of processes for one of the database."""
START = 120.0
"""Seconds that all processes may take to start at once: each takes one of processor time or two."""
OBJECT = re.compile(r"<Key>suite/([^<]+)</Key>")
Kind = Literal["postgresql", "sqlite"]
Index = Literal["faiss", "pgvector"]


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


@dataclass(frozen=True)
class Layout:
    """Which processes there are, and where state lives. On SQLite it is one process that does all, with its files beside it."""

    apis: int = 2
    workers: int = 3
    lease: float = 15.0
    database: Kind = "postgresql"
    index: Index = "faiss"


@dataclass
class Arena:
    """All that a nemesis may get at."""

    folder: Path
    history: History
    model: Model
    url: str
    storage: Proxy | None = None
    store: str = ""
    """The address of the object store itself."""
    cluster: Cluster | None = None
    disk: Disk | None = None
    clock: Clock | None = None
    keys: dict[str, str] = field(default_factory=dict[str, str])
    listeners: list[Listener] = field(default_factory=list[Listener])
    apis: list[Server] = field(default_factory=list[Server])
    workers: list[Process] = field(default_factory=list[Process])
    pictures: list[Picture] = field(default_factory=list[Picture])

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

    async def register(self) -> None:
        """Have each project told of what happens; afterwards all processes know it."""
        for listener in self.listeners:
            await listener.register(self.servers[0], self.keys[listener.project])
        await asyncio.sleep(1.5 * BELIEVED_FOR)

    async def watch(self) -> None:
        """Sample what processes and the database take up until cancelled."""
        engine = create_engine(sqlalchemy_url(self.url), patient=True)
        for number in count():
            for process in self.processes:
                if sample := sample_of(process, self.name(process)):
                    self.history.add(sample)
            if number % STOCK_EVERY == 0:
                with suppress(SQLAlchemyError):  # it may be away
                    self.history.add(await asyncio.to_thread(stock_of, engine, self.folder))
            await asyncio.sleep(SAMPLE_EVERY)

    async def all_told(self, within: float) -> None:
        """Wait until no webhook is on its way any more. Raises AssertionError."""
        engine = create_engine(sqlalchemy_url(self.url), patient=True)

        async def nothing_waits() -> bool:
            stock = await asyncio.to_thread(stock_of, engine, self.folder)
            return stock.waiting["webhook_deliveries"] == 0

        await until(nothing_waits, "all webhooks are delivered", within=within, every=0.25)

    async def objects(self) -> frozenset[str] | None:
        """The keys of all objects in the store."""
        if self.storage is None:
            files = self.folder / "files"
            return frozenset(
                str(one.relative_to(files)) for one in files.rglob("*") if one.is_file()
            )
        found: list[str] = []
        page = [""]
        async with httpx2.AsyncClient() as http:
            while page:
                after = f"suite/{found[-1]}" if found else ""
                query = {"list-type": "2", "start-after": after}
                page = OBJECT.findall((await http.get(f"{self.store}/{BUCKET}", params=query)).text)
                found += page
        return frozenset(found)


@asynccontextmanager
async def open_arena(
    folder: Path, history: History, layout: Layout, nemeses: Sequence[str]
) -> AsyncGenerator[Arena]:
    """An arena that is ready."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(Model(history=history))
        if layout.database == "sqlite":
            arena = Arena(folder, history, model, f"sqlite:///{folder}/threadloom.db")
        else:
            arena = await shared_state(stack, folder, history, model, nemeses)
        settings = SETTINGS | {
            "THREADLOOM_RUNS__LEASE": f"{layout.lease}s",
            "THREADLOOM_EMBEDDINGS__BASE_URL": model.base_url,
            "THREADLOOM_FILE_SEARCH__INDEX": layout.index,
        }
        if arena.storage:
            endpoint = f"http://127.0.0.1:{arena.storage.port}"
            settings |= IN_S3 | {"THREADLOOM_STORAGE__S3__ENDPOINT": endpoint}
        arena.keys = {"a": KEY, "b": create_key(folder, arena.url, "b")}
        for project in arena.keys:
            listener = await stack.enter_async_context(
                reached(Listener(project=project, history=history))
            )
            arena.listeners.append(listener)
        fleet = Fleet(folder, arena.url, model.base_url)
        stack.callback(fleet.stop)
        start(arena, fleet, layout, settings)
        await arena.ready()
        await arena.register()
        yield arena


async def shared_state(
    stack: AsyncExitStack, folder: Path, history: History, model: Model, nemeses: Sequence[str]
) -> Arena:
    """PostgreSQL and an object store, which end with the stack."""
    disk = stack.enter_context(some_disk()) if "disk" in nemeses else None
    cluster = stack.enter_context(running_cluster(disk))
    store = stack.enter_context(running_s3())
    storage = await stack.enter_async_context(Proxy(int(store.rpartition(":")[2])))
    clock = Clock(folder / "offset") if "clock" in nemeses else None
    if clock:
        clock.set("+0")
    return Arena(folder, history, model, cluster.url, storage, store, cluster, disk, clock)


def start(arena: Arena, fleet: Fleet, layout: Layout, settings: dict[str, str]) -> None:
    """The first of each kind has the clock that jumps."""
    for number in range(layout.apis):
        jumps = arena.clock.variables if arena.clock and number == 0 else {}
        arena.apis.append(fleet.serve(settings | jumps, with_worker=layout.workers == 0))
    for number in range(layout.workers):
        jumps = arena.clock.variables if arena.clock and number == 0 else {}
        arena.workers.append(fleet.worker("abcdefgh"[number], settings | jumps))


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
