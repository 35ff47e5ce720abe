"""`threadloom purge`, `db orphans` and `db compact`: delete what is old, what is left over, and its traces."""

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from threadloom.blobs import open_blobs
from threadloom.commands.database import open_database
from threadloom.config import Settings
from threadloom.config.values import UNITS, seconds
from threadloom.db.database import Database
from threadloom.db.rows import ProjectRow
from threadloom.db.tx import Tx
from threadloom.db.wal import compact as compact_database
from threadloom.db.wal import empty_log
from threadloom.errors import StartError, StorageUnavailable
from threadloom.files.sweeping import BLOBS, remove_strays
from threadloom.keeping.aging import Scope, What
from threadloom.keeping.orphans import Orphans, delete_orphans, find_orphans
from threadloom.keeping.retention import purge as purge_one
from threadloom.keeping.traces import TRACES, Rounds
from threadloom.retrieval.sweeping import IndexSweep
from threadloom.retrieval.sweeping import sweep as sweep_stores


def age_of(text: str) -> float:
    """Seconds of `30d`. Raises StartError."""
    age = seconds(text)
    if not isinstance(age, float) or age < 0:
        raise StartError(f"'{text}' is no age: write a number and one of {', '.join(UNITS)}.")
    return age


async def purge(
    settings: Settings,
    whats: Sequence[What],
    *,
    older_than: float,
    project: str | None,
    dry_run: bool,
) -> Mapping[What, int]:
    """How much went of each kind, or would go. Raises StartError."""
    async with open_database(settings) as database:
        project_id = None if project is None else await database.read(project_named, project)
        scope = Scope(database.clock.now() - older_than, project_id)
        counts: dict[What, int] = {
            what: await purge_one(database, what, scope, dry_run=dry_run) for what in whats
        }
        if not dry_run:
            await clear_traces(database, settings)
        return counts


async def clear_traces(database: Database, settings: Settings) -> None:
    """What the deleted rows leave behind, at once and not when a worker comes by."""
    blobs = open_blobs(settings)
    try:
        while await remove_strays(database, blobs, skew=0) == BLOBS:
            pass
    except StorageUnavailable as error:
        raise StartError(
            f"The rows are deleted; their bytes will be later, because the file storage does not answer: {error.__cause__}"
        ) from None
    await sweep_stores(database)
    await IndexSweep(database, settings.data_dir / "index").sweep()
    for step in TRACES:
        await Rounds(database, step).complete()
    await asyncio.to_thread(empty_log, database.engine)


def project_named(tx: Tx, name: str) -> str:
    """Its id, for a name or an id. Raises StartError."""
    known = (ProjectRow.name == name) | (ProjectRow.id == name)
    project_id = tx.session.scalar(select(ProjectRow.id).where(known))
    if project_id is None:
        raise StartError(f"There is no project '{name}'.")
    return project_id


async def orphans(settings: Settings, *, delete: bool) -> Orphans:
    """Raises StartError."""
    async with open_database(settings) as database:
        blobs = open_blobs(settings)
        try:
            found = await find_orphans(database, blobs, settings.data_dir / "index")
            if delete:
                await delete_orphans(blobs, found)
        except StorageUnavailable as error:
            raise StartError(f"The file storage does not answer: {error.__cause__}") from None
        return found


async def compact(settings: Settings) -> None:
    """Raises StartError."""
    async with open_database(settings) as database:
        await asyncio.to_thread(compact_database, database.direct)
