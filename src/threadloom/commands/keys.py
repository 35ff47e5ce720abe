"""`threadloom keys`: make, list and revoke API keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from threadloom.api.keys import create_key, list_keys, revoke_key
from threadloom.commands.database import make_database, open_database
from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.types.limits import NO_OVERRIDES, LimitOverrides


@dataclass(frozen=True)
class Key:
    """What is told of a key: enough to recognise it by."""

    id: str
    project: str
    name: str
    key: str
    created_at: int
    revoked_at: int | None


async def create(
    settings: Settings, *, project: str, name: str, limits: LimitOverrides = NO_OVERRIDES
) -> str:
    async with make_database(settings) as database:
        return await database.write(create_key, project=project, name=name, limits=limits)


async def show(settings: Settings) -> Sequence[Key]:
    async with open_database(settings) as database:
        keys = await database.read(list_keys)
    return [
        Key(key.id, project, key.name, key.hint, key.created_at, key.revoked_at)
        for key, project in keys
    ]


async def revoke(settings: Settings, key_id: str) -> None:
    async with open_database(settings) as database:
        if not await database.write(revoke_key, key_id):
            raise StartError(f"There is no key with id {key_id}.")
