"""What commands that look at objects work on: the database as one project sees it."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import select

from threadloom.api.keys import DEFAULT_PROJECT, ensure_project
from threadloom.api.validation import explain
from threadloom.commands.database import make_database, open_database
from threadloom.config import Settings
from threadloom.db.database import Database, ProjectDatabase
from threadloom.db.rows import ProjectRow
from threadloom.db.tx import Tx
from threadloom.errors import ApiError, StartError

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Scope:
    """Whose objects a command is about."""

    settings: Settings
    project: str


@asynccontextmanager
async def opened(scope: Scope, *, make: bool = False) -> AsyncGenerator[ProjectDatabase]:
    """The project's database, with the project made if `make` says so. What clients are refused, operators are told: raises StartError."""
    open_or_make = make_database if make else open_database
    async with open_or_make(scope.settings) as database:
        with told():
            yield await project_in(database, scope.project, make=make)


async def project_in(database: Database, name: str, *, make: bool = False) -> ProjectDatabase:
    """Raises StartError."""
    if make or name == DEFAULT_PROJECT:
        return database.project(await database.write(ensure_project, name))
    return database.project(await database.read(existing_project, name))


def existing_project(tx: Tx, name: str) -> str:
    """Its id. Raises StartError."""
    project_id = id_of_project(tx, name)
    if project_id is None:
        raise StartError(f"There is no project {name}.")
    return project_id


def id_of_project(tx: Tx, name: str) -> str | None:
    return tx.session.scalar(select(ProjectRow.id).where(ProjectRow.name == name))


@contextmanager
def told() -> Generator[None]:
    """A refusal of the API as the sentence in it. Raises StartError."""
    try:
        yield
    except ApiError as refused:
        raise StartError(refused.message) from None


def read_as(kind: type[Body], given: object) -> Body:
    """A body as the API would take it. Raises InvalidRequest."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults = [fault | {"loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise explain(faults) from None
