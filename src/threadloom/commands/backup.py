"""`threadloom backup`: make, check and restore backups."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from threadloom.blobs import open_blobs
from threadloom.commands.database import make_data_dir, refuse_no_database
from threadloom.config import Settings
from threadloom.db.clock import DatabaseClock
from threadloom.db.engine import connect, create_engine
from threadloom.db.failures import said_by
from threadloom.db.migrate import revision_of, revisions
from threadloom.errors import StartError, StorageUnavailable
from threadloom.keeping.backup import create_backup
from threadloom.keeping.layout import Manifest, read_manifest
from threadloom.keeping.restoring import restore_backup
from threadloom.keeping.verifying import faults_of


async def create(settings: Settings, path: Path) -> Manifest:
    """Raises StartError."""
    refuse_no_database(settings)
    async with opened(settings) as (engine, clock):
        await asyncio.to_thread(refuse_other_schema, engine)
        return await create_backup(engine, open_blobs(settings), clock, path)


def verify(path: Path) -> tuple[Manifest, list[str]]:
    """What the backup holds, and what is wrong with it. Raises StartError."""
    manifest = read_manifest(path)
    faults = list(faults_of(path))
    if manifest.missing_blobs:
        faults.append(f"{manifest.missing_blobs} files had no bytes when it was made.")
    return manifest, faults


async def restore(settings: Settings, path: Path, *, force: bool) -> Manifest:
    """Raises StartError."""
    make_data_dir(settings)
    async with opened(settings) as (engine, clock):
        return await restore_backup(engine, open_blobs(settings), clock, path, force=force)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[Engine, DatabaseClock]]:
    """The database as it is: no migration, and no bounds on how long a statement takes."""
    engine = create_engine(settings.direct_database_url, patient=True)
    clock = DatabaseClock()
    clock.follow(engine)
    try:
        yield engine, clock
    except SQLAlchemyError as error:
        raise StartError(f"The database does not do what is asked: {said_by(error)}") from None
    except StorageUnavailable as error:
        raise StartError(f"The file storage does not answer: {error.__cause__}") from None
    finally:
        engine.dispose()


def refuse_other_schema(engine: Engine) -> None:
    with connect(engine) as connection:
        revision = revision_of(connection)
    if revision is None:
        raise StartError("There is nothing to back up: this database has no tables of Threadloom.")
    if revision != revisions()[0]:
        raise StartError(
            f"The database's schema is {revision}, and this program's is {revisions()[0]}: back it up with the version "
            "that uses it, or run `threadloom db upgrade` first."
        )
