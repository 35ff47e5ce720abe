"""What a process says of its listener and of its connections."""

from collections.abc import Generator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.runs.workers import eventually
from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.notify import MANY_MISSED, warn_of_lost
from threadloom.ids import RandomIds


@pytest.fixture
def logs() -> Generator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


async def test_more_connections_than_postgresql_takes_are_told_at_the_start(
    postgres: Postgres, logs: list[EventDict]
) -> None:
    with postgres.database() as url:
        database = Database(
            sqlalchemy_url(url), clock=SystemClock(), ids=RandomIds(), pool_size=200
        )
        await eventually(lambda: logs)
        await database.close()
    told = next(one for one in logs if one["event"] == "PostgreSQL may run out of connections")
    assert told["threadloom"] >= 202
    assert told["max_connections"] < 100
    assert "database.pool_size" in told["mend"]


def test_wake_ups_that_are_lost_are_told_when_they_are_many(logs: list[EventDict]) -> None:
    warn_of_lost(MANY_MISSED - 1)
    warn_of_lost(MANY_MISSED)
    assert [(one["event"], one["missed"]) for one in logs] == [("wake-ups are lost", MANY_MISSED)]
