"""Fleets of processes on either database; what they logged is part of a failed test's report.

A process costs two seconds of processor time to start. So tests that can live with each other's threads and runs use the `lasting_` ones,
which a module starts once.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.processes import Fleet
from tests.support.postgres import Postgres
from threadloom.testing.upstream import Upstream

LOG_TAIL = 6_000


@contextmanager
def on_sqlite_in(folder: Path, upstream: Upstream) -> Generator[Fleet]:
    fleet = Fleet(folder, f"sqlite:///{folder}/threadloom.db", upstream.base_url)
    try:
        yield fleet
    finally:
        fleet.stop()


@contextmanager
def on_postgres_in(folder: Path, upstream: Upstream, postgres: Postgres) -> Generator[Fleet]:
    with postgres.database() as url:
        fleet = Fleet(folder, url, upstream.base_url)
        try:
            yield fleet
        finally:
            fleet.stop()


def on_either(request: pytest.FixtureRequest, prefix: str = "") -> Fleet:
    name = "on_sqlite" if request.param == "sqlite" else "on_postgres"
    chosen: Fleet = request.getfixturevalue(prefix + name)
    return chosen


# For one test.


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
def on_postgres(postgres: Postgres, upstream: Upstream, tmp_path: Path) -> Generator[Fleet]:
    with on_postgres_in(tmp_path, upstream, postgres) as fleet:
        yield fleet


@pytest.fixture
def on_sqlite(upstream: Upstream, tmp_path: Path) -> Generator[Fleet]:
    with on_sqlite_in(tmp_path, upstream) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """Either database."""
    return on_either(request)


# For all tests of a module.


@pytest.fixture(scope="module")
def lasting_upstream() -> Generator[Upstream]:
    """In a thread of its own: it outlives the event loops of tests."""
    upstream = Upstream()
    listens = threading.Event()
    loop = asyncio.new_event_loop()
    ends = asyncio.Event()

    async def serve() -> None:
        async with upstream:
            listens.set()
            await ends.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert listens.wait(10)
    yield upstream
    loop.call_soon_threadsafe(ends.set)
    thread.join()


@pytest.fixture
def scripted(lasting_upstream: Upstream) -> Upstream:
    """The lasting upstream, which has forgotten what it was asked before this test."""
    lasting_upstream.calls.clear()
    return lasting_upstream


@pytest.fixture(scope="module")
def lasting_on_postgres(
    postgres: Postgres, lasting_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with on_postgres_in(folder, lasting_upstream, postgres) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def lasting_on_sqlite(
    lasting_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Fleet]:
    with on_sqlite_in(tmp_path_factory.mktemp("fleet"), lasting_upstream) as fleet:
        yield fleet


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_fleet(request: pytest.FixtureRequest) -> Fleet:
    """Either database."""
    return on_either(request, "lasting_")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        report.sections.extend(
            (log.name, log.read_text()[-LOG_TAIL:])
            for folder in sorted({*folders_of(item)})
            for log in sorted(folder.glob("*.log"))
        )
    return report


def folders_of(test: pytest.Function) -> Generator[Path]:
    """Where the processes that a test has used write their logs."""
    for name, value in test.funcargs.items():
        if isinstance(value, Fleet):
            yield value.folder
        elif name == "tmp_path" and isinstance(value, Path):
            yield value
