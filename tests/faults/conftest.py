"""Fleets of processes on either database; what they logged is part of a failed test's report."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.faults.processes import Fleet
from tests.support.postgres import Postgres
from threadloom.testing.upstream import Upstream

LOG_TAIL = 6_000


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
def on_postgres(postgres: Postgres, upstream: Upstream, tmp_path: Path) -> Generator[Fleet]:
    with postgres.database() as url:
        fleet = Fleet(tmp_path, url, upstream.base_url)
        try:
            yield fleet
        finally:
            fleet.stop()


@pytest.fixture
def on_sqlite(upstream: Upstream, tmp_path: Path) -> Generator[Fleet]:
    fleet = Fleet(tmp_path, f"sqlite:///{tmp_path}/threadloom.db", upstream.base_url)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """Either database."""
    chosen: Fleet = request.getfixturevalue(
        "on_sqlite" if request.param == "sqlite" else "on_postgres"
    )
    return chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    folder = item.funcargs.get("tmp_path") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(folder, Path):
        report.sections.extend(
            (log.name, log.read_text()[-LOG_TAIL:]) for log in sorted(folder.glob("*.log"))
        )
    return report
