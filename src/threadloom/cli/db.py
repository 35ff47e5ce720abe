"""`threadloom db`."""

from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, note, show_json, show_table
from threadloom.cli.purge import ask
from threadloom.config import Settings

db = typer.Typer(no_args_is_help=True, help="The database.")


@db.command()
def upgrade(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Bring the database to this program's schema; `serve` does it by itself."""
    start(migrate(settings_of(data_dir, config)))


@db.command()
def orphans(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete such blobs and index files; rows stay.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Find blobs without rows, rows without blobs, and index files without stores."""
    from threadloom.commands import purge as commands

    settings = settings_of(data_dir, config)
    found = start(commands.orphans(settings, delete=delete and yes))
    if delete and not yes and (found.blob_count or found.index_files):
        ask(f"{found.blob_count} blobs and {len(found.index_files)} index files")
        found = start(commands.orphans(settings, delete=True))
    if as_json:
        show_json(found)
        return
    rows = [
        *(("blob without row", key) for key in found.blobs),
        *(("row without blob", key) for key in found.missing_blobs),
        *(("index without store", path) for path in found.index_files),
    ]
    show_table(("what", "where"), rows)
    note(
        f"{found.blob_count} blobs without rows, {found.missing_count} rows without blobs, "
        f"{len(found.index_files)} index files without stores."
    )


@db.command()
def compact(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Write the database anew without the space of deleted rows. Servers wait meanwhile."""
    from threadloom.commands import purge as commands

    start(commands.compact(settings_of(data_dir, config)))


async def migrate(settings: Settings) -> None:
    from threadloom.commands.database import make_database

    async with make_database(settings):
        pass
