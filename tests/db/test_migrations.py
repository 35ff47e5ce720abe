"""Migrations: from nothing, back, and up again, on both databases."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.db.engine import connect, create_engine
from threadloom.db.migrate import scripts, upgrade
from threadloom.db.rows import Row
from threadloom.errors import StartError


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


@pytest.fixture
def engine(url: str) -> Generator[Engine]:
    made = create_engine(url)
    yield made
    made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def downgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    with connect(engine, write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def test_an_empty_database_gets_every_table(engine: Engine) -> None:
    upgrade(engine)
    assert tables(engine) == set(Row.metadata.tables)


def test_migrations_can_be_undone_and_done_again(engine: Engine) -> None:
    upgrade(engine)
    downgrade(engine)
    assert tables(engine) == set()
    upgrade(engine)
    assert tables(engine) == set(Row.metadata.tables)


def test_migrations_lead_to_the_schema_of_the_rows(engine: Engine) -> None:
    upgrade(engine)
    with connect(engine) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Row.metadata) == []


def test_an_up_to_date_database_is_left_alone(engine: Engine) -> None:
    upgrade(engine)
    upgrade(engine)


def test_a_database_newer_than_the_program_stops_the_start(engine: Engine) -> None:
    upgrade(engine)
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartError) as stopped:
        upgrade(engine)
    assert str(stopped.value) == (
        "The database is newer than this program (its schema is 9999): "
        "upgrade Threadloom, or restore a backup from before the upgrade."
    )


async def test_two_processes_may_upgrade_at_once(url: str) -> None:
    engines = [create_engine(url) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(upgrade, engine) for engine in engines))
    assert tables(engines[0]) == set(Row.metadata.tables)
    for engine in engines:
        engine.dispose()
