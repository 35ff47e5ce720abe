"""A process that is killed in the midst of a migration leaves nothing of it behind."""

from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.faults.migrating import migrate_killed_at
from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.db.engine import create_engine

DEATHS = (20, 60)
"""Statements: of the first step, and of a later one."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as made:
        engine = create_engine(sqlalchemy_url(made))
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        yield sqlalchemy_url(made)


def test_a_migration_that_was_killed_is_done_again(url: str) -> None:
    assert migrate_killed_at(url, DEATHS) == len(DEATHS)
