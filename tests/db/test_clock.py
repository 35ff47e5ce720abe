"""All processes on one PostgreSQL have its time, whatever their machines' clocks say."""

import time
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, text

from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.db import clock as module
from threadloom.db.clock import DatabaseClock
from threadloom.db.engine import create_engine


def test_the_time_is_the_databases(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    clock = DatabaseClock()
    assert abs(clock.now() - 1_000) < 10
    engine = create_engine(sqlalchemy_url(postgres.url("template1")))
    clock.follow(engine)
    with engine.begin() as connection:
        there = connection.execute(text("SELECT extract(epoch FROM now())::float8")).scalar_one()
    assert abs(clock.now() - there) < 5


def test_on_sqlite_it_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DatabaseClock()
    engine = create_engine(f"sqlite:///{tmp_path}/one.db")
    clock.follow(engine)
    with engine.begin():
        monkeypatch.setattr(time, "time", lambda: 1_000.0)
        assert clock.now() == 1_000


class SlowDatabase:
    """Its clock is an hour ahead, and it takes its time to say so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.takes = 0.0
        self.here = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.here)
        monkeypatch.setattr(time, "time", lambda: self.here)

    def exec_driver_sql(self, _: str) -> "SlowDatabase":
        self.asked += 1
        self.here += self.takes
        return self

    def scalar_one(self) -> float:
        return self.here + 3_600


def test_a_look_that_took_long_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    database = SlowDatabase(monkeypatch)
    clock = DatabaseClock()
    look = clock.look
    connection = cast(Connection, database)  # all that is asked of it
    look(connection)
    assert clock.now() == database.here + 3_600
    look(connection)
    assert database.asked == 1, "not at each transaction"
    database.here += module.LOOK_EVERY
    database.takes = 60.0
    look(connection)
    assert clock.now() == database.here + 3_600
    look(connection)
    assert database.asked == 3, "it looks again until an answer comes quickly"
