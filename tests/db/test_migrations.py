"""Migrations: from nothing, back, and up again, on both databases."""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path
from signal import SIGKILL

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from tests.support.process import COMMAND, environment
from threadloom.db.engine import connect, create_engine
from threadloom.db.migrate import scripts, upgrade
from threadloom.db.rows import Row
from threadloom.errors import StartError

OLDER = "0003"
"""A schema from which there is a way to go."""


@pytest.fixture
def engine(empty_url: str) -> Generator[Engine]:
    made = create_engine(empty_url)
    yield made
    made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def config_on(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def downgrade(engine: Engine) -> None:
    with connect(engine, write=True) as connection, connection.begin():
        command.downgrade(config_on(connection), "base")


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
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(
            text("INSERT INTO projects (id, name, created_at) VALUES ('proj_1', 'kept', 0)")
        )
    before = revision(engine)
    upgrade(engine)
    with connect(engine) as connection:
        assert connection.scalar(text("SELECT name FROM projects")) == "kept"
    assert revision(engine) == before


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


def stand_at(engine: Engine, revision: str) -> None:
    """Bring an empty database to an older schema."""
    with connect(engine, write=True) as connection, connection.begin():
        command.upgrade(config_on(connection), revision)


def test_runs_that_were_counted_before_requests_count_as_one_each(engine: Engine) -> None:
    stand_at(engine, "0005")
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(
            text("INSERT INTO projects (id, created_at, name) VALUES ('proj_1', 0, 'old')")
        )
        connection.execute(
            text(
                "INSERT INTO usage VALUES ('proj_1', '2026-11-01', '', 'asst_1', 'm', 1, 3, 40, 5)"
            )
        )
    upgrade(engine)
    with connect(engine) as connection:
        counted = connection.execute(
            text("SELECT runs, model_requests, prompt_tokens, completion_tokens FROM usage")
        )
        assert counted.one() == (3, 3, 40, 5)


def revision(engine: Engine) -> str | None:
    with connect(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def test_a_sqlite_file_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'threadloom.db'}")
    stand_at(engine, OLDER)
    upgrade(engine)
    upgrade(engine)
    head = revision(engine)
    assert sorted(path.name for path in tmp_path.glob("*before*")) == [
        f"threadloom.db.before-{head}"
    ]
    kept = create_engine(f"sqlite:///{tmp_path / f'threadloom.db.before-{head}'}")
    assert revision(kept) == OLDER
    for one in (engine, kept):
        one.dispose()


def test_copies_of_more_than_30_days_ago_go_with_the_next_one(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'threadloom.db'}")
    stand_at(engine, OLDER)
    now = (tmp_path / "threadloom.db").stat().st_mtime
    cannot_go = tmp_path / "threadloom.db.before-0003"
    cannot_go.mkdir()
    os.utime(cannot_go, (now, now - 31 * 86_400))
    for name, days in {
        "threadloom.db.before-0001": 31,
        "threadloom.db.before-0001.unfinished": 31,
        "threadloom.db.before-0002": 29,
        "threadloom.db.before-the-move": 31,
        "another.db.before-0001": 31,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now, now - days * 86_400))
    upgrade(engine)
    assert {path.name for path in tmp_path.glob("*before*")} == {
        f"threadloom.db.before-{revision(engine)}",
        cannot_go.name,
        "threadloom.db.before-0002",
        "threadloom.db.before-the-move",
        "another.db.before-0001",
    }
    engine.dispose()


def test_a_sqlite_file_that_cannot_be_copied_is_not_changed(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'threadloom.db'}")
    stand_at(engine, OLDER)
    head = ScriptDirectory(str(scripts())).get_current_head()
    (tmp_path / f"threadloom.db.before-{head}").mkdir()
    with pytest.raises(StartError, match="cannot be copied to"):
        upgrade(engine)
    assert revision(engine) == OLDER
    engine.dispose()


async def migrated_by_processes(url: str, folder: Path, count: int, **more: str) -> list[int]:
    """The exit codes of so many `threadloom db upgrade` at once."""
    variables = environment(
        THREADLOOM_DATABASE__URL=url, THREADLOOM_DATA_DIR=str(folder / "data"), **more
    )
    command = (str(COMMAND), "db", "upgrade")
    processes = [
        await asyncio.create_subprocess_exec(*command, cwd=folder, env=variables)
        for _ in range(count)
    ]
    return [await process.wait() for process in processes]


async def test_processes_may_start_at_once_on_an_empty_database(
    empty_url: str, engine: Engine, tmp_path: Path
) -> None:
    assert await migrated_by_processes(empty_url, tmp_path, 3) == [0] * 3
    assert tables(engine) == set(Row.metadata.tables)


async def test_a_migration_that_was_killed_half_way_is_done_again(
    empty_url: str, engine: Engine, tmp_path: Path
) -> None:
    await asyncio.to_thread(stand_at, engine, OLDER)
    fault = "migration.statement:8:kill"
    assert await migrated_by_processes(empty_url, tmp_path, 1, THREADLOOM_FAULT=fault) == [-SIGKILL]
    assert revision(engine) == OLDER
    assert await migrated_by_processes(empty_url, tmp_path, 2) == [0, 0]
    assert tables(engine) == set(Row.metadata.tables)


async def test_two_processes_may_upgrade_at_once(empty_url: str) -> None:
    engines = [create_engine(empty_url) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(upgrade, engine) for engine in engines))
    assert tables(engines[0]) == set(Row.metadata.tables)
    for engine in engines:
        engine.dispose()
