"""The fault suite: users at work, a nemesis, and a check of all that happened.

python -m tests.faults.suite --nemesis kill --seconds 120
python -m tests.faults.suite --nemesis kill --index pgvector
python -m tests.faults.suite                            # all of them, one after the other
"""

import argparse
import asyncio
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, groupby, islice, pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.faults.arena import EXPIRES_AFTER, Arena, Index, Layout, faketime, open_arena
from tests.faults.caller import Caller
from tests.faults.case import Bounds
from tests.faults.checker import Violation, check
from tests.faults.cluster import running_cluster
from tests.faults.final import Final, read_final
from tests.faults.history import (
    Call,
    Delivery,
    Fault,
    History,
    Recovery,
    Request,
    Sample,
    Stock,
    now,
)
from tests.faults.migrating import migrate_killed_at
from tests.faults.nemesis import NEMESES, Pace, disturbed
from tests.faults.power import judge
from tests.faults.processes import until
from tests.faults.workload import Known, User
from tests.support.postgres import sqlalchemy_url

PATIENCE = 180.0
"""Seconds that a client waits for one thing."""

MIGRATIONS = "migrations"
ALONE = ("held", "power")
"""What befalls one process with SQLite."""
MILD = ("mishaps",)
"""What is to show in the long run, at a load that leaves time to rest."""
FEW, REST = 8, 1.0
"""Clients, and seconds of rest, of these two."""
SETTLES = 60.0
FAISS: Index = "faiss"
PGVECTOR: Index = "pgvector"
TWICE = ("kill", "database")
"""What is played with pgvector too."""
STRIDE = 7
STRIKES = 240.0
"""Seconds that a nemesis may take to its first fault: the victims of `points` have to start first, and to come by."""
SHOWN = 10
"""Violations of one invariant that are printed."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    layout: Layout = field(default_factory=Layout)
    clients: int = 32
    seconds: float = 120.0
    """For each nemesis."""
    words: int = 20
    rate: int = 20
    rest: float = 0.0
    """Of a client between two things, in seconds."""
    pace: Pace = field(default_factory=Pace)
    settles: float = math.inf
    """Seconds that a process has to live before it may not grow any more: where the load stays the same."""


@dataclass(frozen=True)
class Report:
    """What came of it."""

    nemesis: str
    history: History
    final: Final
    violations: list[Violation]
    gave_up: list[str]


def possible() -> list[str]:
    """The nemeses that this machine allows: one mounts a disk, one needs Debian's faketime."""
    impossible = {
        name for name, can in (("disk", os.geteuid() == 0), ("clock", faketime())) if not can
    }
    return [name for name in NEMESES if name not in {*impossible, *ALONE}]


async def play(nemeses: Sequence[str], size: Size, folder: Path) -> Report:
    """Disturb the users' work by one nemesis after the other, let it end, and check."""
    with closing(History(folder / "history.jsonl")) as history:
        violations: list[Violation] = []
        async with open_arena(folder, history, size.layout, nemeses) as arena:
            watching = asyncio.create_task(arena.watch())
            gave_up = await work(arena, nemeses, size)
            watching.cancel()
            with suppress(AssertionError):  # the checker tells which are not
                await arena.all_told(within=PATIENCE)
            violations += [Violation("I2", f"a client gave up: {what}") for what in gave_up]
            violations += ended_by_themselves(arena)
            objects = await arena.objects()
            final = await asyncio.to_thread(read_final, sqlalchemy_url(arena.url), objects)
    bounds = Bounds(size.layout.lease, EXPIRES_AFTER, settles=size.settles)
    violations += check(history, final, bounds)
    for picture in arena.pictures:
        violations += [Violation("I1", what) for what in judge(picture, history)]
    return Report(" ".join(nemeses), history, final, violations, gave_up)


async def work(arena: Arena, nemeses: Sequence[str], size: Size) -> list[str]:
    """All users until the last nemesis has gone and all that was begun has ended; answers with what took too long."""
    stop = asyncio.Event()
    known = Known()
    async with AsyncExitStack() as stack:
        users: list[User] = []
        for number in range(size.clients):
            project = "ab"[number % 2]
            caller = Caller(
                f"c{number}",
                project,
                arena.keys[project],
                arena.servers,
                arena.history,
                patience=PATIENCE,
            )
            stack.push_async_callback(caller.close)
            users.append(
                User(
                    caller,
                    arena.history,
                    known,
                    words=size.words,
                    rate=size.rate,
                    rest=size.rest,
                )
            )
        async with asyncio.TaskGroup() as living:
            for user in users:
                living.create_task(user.live(stop))
            try:
                for name in nemeses:
                    async with disturbed(arena, name, size.pace):
                        await asyncio.sleep(size.seconds)
                        await until(partial(has_struck, arena.history, name), name, within=STRIKES)
            finally:
                stop.set()
        await asyncio.gather(*(user.look_again() for user in users))
        return [what for user in users for what in user.gave_up]


def has_struck(history: History, nemesis: str) -> bool:
    return any(fault.nemesis == nemesis for fault in history.of(Fault))


def ended_by_themselves(arena: Arena) -> list[Violation]:
    return [
        Violation("I2", f"{arena.name(process)} ended by itself")
        for process in arena.processes
        if not process.alive
    ]


def rows_of(report: Report) -> dict[str, str]:
    """A report as the table shows it."""
    requests = list(report.history.of(Request))
    refused = Counter(str(r.status) for r in requests if r.status and r.status >= 400)
    lost = sum(request.status is None for request in requests)
    ended = Counter(run["status"] for run in report.final.runs)
    faults = Counter(fault.nemesis for fault in report.history.of(Fault))
    return {
        "faults": counted(faults),
        "requests": str(len(requests)),
        "acknowledged": str(sum(r.status is not None and r.status < 300 for r in requests)),
        "refused": counted(refused),
        "no answer": str(lost),
        "runs": counted(ended),
        "webhooks": webhooks(report),
        "searches": str(sum(request.path.endswith("/search") for request in requests)),
        **most(report.history),
        **recoveries(report.history),
        "violations": str(len(report.violations)),
    }


def most(history: History) -> dict[str, str]:
    """What any process, and the database, took at the most."""
    samples = [*history.of(Sample)]
    stocks = [*history.of(Stock)]
    return {
        "most of a process": f"{max((s.rss for s in samples), default=0) >> 20} MB, "
        f"{max((s.files for s in samples), default=0)} files, "
        f"{max((s.threads for s in samples), default=0)} threads",
        "database, folder": f"{max((s.database for s in stocks), default=0) >> 20} MB, "
        f"{max((s.folder for s in stocks), default=0) >> 20} MB",
    }


def webhooks(report: Report) -> str:
    sent = [*report.history.of(Delivery)]
    once = {one.event_id for one in sent if one.taken}
    taken = sum(one.taken for one in sent)
    return f"{len(once)} events, {len(sent)} requests, {taken - len(once)} taken again"


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "-"


def recoveries(history: History) -> dict[str, str]:
    """Median and maximum of the seconds, by what recovered."""
    seconds: dict[str, list[float]] = {}
    for one in history.of(Recovery):
        seconds.setdefault(one.what, []).append(one.seconds)
    if moved := taken_over(history):
        seconds["worker: loss of a run to its next call of the model"] = moved
    return {
        what: f"{median(times):.1f} s, at most {max(times):.1f} s"
        for what, times in seconds.items()
    }


def taken_over(history: History) -> list[float]:
    """How long after its worker was killed or frozen a run asked the model again."""
    calls: dict[str, list[Call]] = {}
    for call in history.of(Call):
        calls.setdefault(call.text, []).append(call)
    found: list[float] = []
    for fault in history.of(Fault):
        if fault.victim.startswith("worker"):
            for made in calls.values():
                found += [
                    later.began - fault.at
                    for earlier, later in pairwise(made)
                    if interrupted(earlier, fault) and later.began > fault.at
                ]
    return found


def interrupted(call: Call, fault: Fault) -> bool:
    """A kill ends calls at once, a freeze leaves them open."""
    if fault.nemesis == "freeze":  # what it does not read waits for it
        return call.began < fault.at < call.ended
    return not call.answered and abs(call.ended - fault.at) < 0.3


def show(report: Report, layout: Layout) -> None:
    console = Console()
    title = f"{report.nemesis} on {layout.database} with {layout.index}"
    table = Table(title=title, show_header=False)
    for name, value in rows_of(report).items():
        table.add_row(name, value)
    console.print(table)
    for kind, violations in groupby(report.violations, key=lambda one: one.invariant):
        for violation in islice(violations, SHOWN):
            console.print(f"{kind}: {violation.what}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.suite")
    parser.add_argument("--nemesis", action="append", choices=[*NEMESES, MIGRATIONS])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--kill", type=float, default=1.0, help="seconds from one to the next")
    parser.add_argument("--freeze", type=float, default=60.0, help="seconds")
    parser.add_argument("--lease", type=float, default=15.0, help="seconds")
    parser.add_argument("--index", choices=("faiss", "pgvector"), default="faiss")
    options = parser.parse_args()
    size = Size(
        Layout(lease=options.lease, index=options.index),
        clients=options.clients,
        seconds=options.seconds,
        pace=Pace(options.kill, options.freeze, options.lease),
    )
    games = [(name, options.index) for name in options.nemesis or ()] or all_games()
    failed = [name for name, index in games if not went_well(name, index, size)]
    sys.exit(bool(failed))


def all_games() -> list[tuple[str, Index]]:
    """Each nemesis, and those that are hard on vector indexes with both of them."""
    names = [*possible(), *ALONE, MIGRATIONS]
    return [*((name, FAISS) for name in names), *((name, PGVECTOR) for name in TWICE)]


def went_well(name: str, index: Index, size: Size) -> bool:
    """Play it and show what came of it."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
    if name == MIGRATIONS:
        kill_migrations(folder)
        return True
    began = now()
    size = fitted(replace(size, layout=replace(size.layout, index=index)), name)
    report = asyncio.run(play([name], size, folder))
    show(report, size.layout)
    print(f"{now() - began:.0f} s; logs and history in {folder}", flush=True)  # noqa: T201
    return not report.violations


def fitted(size: Size, name: str) -> Size:
    """What the nemesis is made for."""
    if name in ALONE:
        layout = replace(size.layout, apis=1, workers=0, database="sqlite")
        return replace(size, layout=layout, clients=min(size.clients, FEW))
    if name in MILD:
        return replace(size, clients=min(size.clients, FEW), rest=REST, settles=SETTLES)
    return size


def kill_migrations(folder: Path) -> None:
    """On both databases, at every `STRIDE`th statement."""
    with running_cluster(None) as cluster:
        for url in (f"sqlite:///{folder}/empty.db", sqlalchemy_url(cluster.url)):
            deaths = migrate_killed_at(url, count(1, STRIDE))
            print(f"migrations: killed {deaths} times, nothing left behind: {url[:10]}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
