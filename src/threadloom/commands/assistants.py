"""`threadloom assistants`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from threadloom.api import assistants
from threadloom.commands.projects import Scope, opened, read_as, told
from threadloom.db.tx import PageQuery
from threadloom.errors import StartError
from threadloom.types.assistants import Assistant, AssistantCreate
from threadloom.types.shared import Deleted, JsonObject, Page

ID = re.compile(r"asst_[A-Za-z0-9_-]{1,64}")
NOT_CHOSEN = ("object", "created_at")
"""What an assistant has that was read from an API, and that nobody can choose."""


async def page(scope: Scope, query: PageQuery) -> Page[Assistant]:
    async with opened(scope) as database:
        return await assistants.list_assistants(query, database)


async def show(scope: Scope, assistant_id: str) -> Assistant:
    async with opened(scope) as database:
        return await assistants.retrieve_assistant(assistant_id, database)


async def create(scope: Scope, given: Mapping[str, Any], assistant_id: str | None) -> Assistant:
    """An assistant from a body of the API; one that was read from an API keeps its id. Raises StartError."""
    body = {name: value for name, value in given.items() if name not in NOT_CHOSEN}
    kept = body.pop("id", None)
    chosen = assistant_id or kept
    if chosen is not None and not ID.fullmatch(str(chosen)):
        raise StartError(f"'{chosen}' is not an assistant's id: those look like asst_abc123.")
    with told():
        wanted = read_as(AssistantCreate, body)
    async with opened(scope, make=True) as database:
        tables = scope.settings.file_search.tables
        made = await database.write(assistants.create, wanted, tables=tables, assistant_id=chosen)
        return Assistant.model_validate(made)


async def delete(scope: Scope, assistant_id: str) -> Deleted:
    async with opened(scope) as database:
        return await assistants.delete_assistant(assistant_id, database)


def read_body(path: Path) -> JsonObject:
    """Raises StartError."""
    try:
        body = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise StartError(f"Cannot read {path}: {error}") from None
    if not isinstance(body, dict):
        raise StartError(f"{path} must hold one JSON object.")
    return body  # pyright: ignore[reportUnknownVariableType] - keys of JSON objects are strings
