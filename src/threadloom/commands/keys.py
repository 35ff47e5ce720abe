"""`threadloom keys`: make, list and revoke API keys."""

from rich.console import Console
from rich.table import Table

from threadloom.api.keys import create_key, list_keys, revoke_key
from threadloom.commands.database import open_database
from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.types.limits import NO_OVERRIDES, LimitOverrides


async def create(
    settings: Settings, *, project: str, name: str, limits: LimitOverrides = NO_OVERRIDES
) -> str:
    async with open_database(settings) as database:
        return await database.write(create_key, project=project, name=name, limits=limits)


async def show(settings: Settings) -> None:
    async with open_database(settings) as database:
        keys = await database.read(list_keys)
    table = Table("id", "project", "name", "key", "state")
    for key, project in keys:
        table.add_row(key.id, project, key.name, key.hint, "revoked" if key.revoked_at else "works")
    Console().print(table)


async def revoke(settings: Settings, key_id: str) -> None:
    async with open_database(settings) as database:
        if not await database.write(revoke_key, key_id):
            raise StartError(f"There is no key with id {key_id}.")
