"""`threadloom db`."""

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.config import Settings

db = typer.Typer(no_args_is_help=True, help="The database.")


@db.command()
def upgrade(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Bring the database to this program's schema; `serve` does it by itself."""
    start(migrate(settings_of(data_dir, config)))


async def migrate(settings: Settings) -> None:
    from threadloom.commands.database import open_database

    async with open_database(settings):
        pass
