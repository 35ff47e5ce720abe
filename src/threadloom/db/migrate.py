"""Brings a database to this program's schema, under a lock, when the program starts."""

import os
import re
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from threadloom.db.engine import connect, is_sqlite
from threadloom.errors import StartError

log = structlog.get_logger()
LOCK = 0x7468726D
COPIES_KEPT = 30 * 86_400
"""Seconds between a copy of a SQLite file and a later one that it goes with."""
PACKAGE = Path(__file__).parents[1]


def scripts() -> Path:
    """The migrations: inside an installed package, at the top of a checkout."""
    shipped = PACKAGE / "migrations"
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / "migrations"


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(engine: Engine) -> None:
    """Run what is missing; a SQLite file is copied before. Raises StartError when the database is newer than this program."""
    config = configuration()
    with connect(engine, write=True) as connection, locked(connection):
        current = revision_of(connection)
        known = ScriptDirectory.from_config(config)
        if current is not None and current not in {one.revision for one in known.walk_revisions()}:
            raise StartError(
                f"The database is newer than this program (its schema is {current}): "
                "upgrade Threadloom, or restore a backup from before the upgrade."
            )
        if current != (head := known.get_current_head()):
            if current is not None and is_sqlite(engine):
                back_up(engine, f"before-{head}")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def revision_of(connection: Connection) -> str | None:
    """Of the schema; None: there is none."""
    return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """All that this program knows, the newest first."""
    return [one.revision for one in ScriptDirectory.from_config(configuration()).walk_revisions()]


def refuse_unknown(revision: str) -> None:
    if revision not in revisions():
        raise StartError(
            f"The backup is newer than this program (its schema is {revision}): use the version that made it, or a later one."
        )


def bring_to(connection: Connection, revision: str) -> None:
    """Give a database without rows this schema, forwards or backwards."""
    known = revisions()
    current = revision_of(connection)
    if current == revision:
        return
    config = configuration()
    config.attributes["connection"] = connection
    if current is None or known.index(revision) < known.index(current):
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)


def back_up(engine: Engine, suffix: str) -> None:
    """Copy a SQLite file before it is changed, beside it. The file is not there before it is whole. Raises StartError."""
    database = str(engine.url.database)
    kept = Path(f"{database}.{suffix}")
    unfinished = Path(f"{kept}.unfinished")
    try:
        with (
            closing(sqlite3.connect(database)) as source,
            closing(sqlite3.connect(unfinished)) as to,
        ):
            source.backup(to)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(kept)
    except (sqlite3.Error, OSError) as error:
        unfinished.unlink(missing_ok=True)
        raise StartError(
            f"The database is to be brought to a newer schema, but it cannot be copied to {kept} before: {error}."
        ) from None
    log.info("database backed up", path=str(kept))
    remove_old_copies(Path(database), kept.stat().st_mtime - COPIES_KEPT)


def remove_old_copies(database: Path, before: float) -> None:
    """They have what was deleted since. Others than ours stay."""
    ours = re.compile(re.escape(database.name) + r"\.before-[0-9]+(\.unfinished)?")
    for path in [one for one in database.parent.iterdir() if ours.fullmatch(one.name)]:
        try:
            if path.stat().st_mtime < before:
                path.unlink()
                log.info("old copy of the database removed", path=str(path))
        except OSError as error:
            log.warning(
                "old copy of the database not removed", path=str(path), reason=type(error).__name__
            )


@contextmanager
def locked(connection: Connection) -> Generator[None]:
    """One process migrates at a time; SQLite's write transaction is the lock."""
    with connection.begin():
        if not is_sqlite(connection.engine):
            for bound in ("lock_timeout", "statement_timeout"):
                # A migration may take long, and so may another process's.
                connection.execute(text(f"SET LOCAL {bound} = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        yield
