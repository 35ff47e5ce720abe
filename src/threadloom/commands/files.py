"""`threadloom files`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from threadloom.api import files as api
from threadloom.api.multipart import at_most
from threadloom.blobs import open_blobs
from threadloom.commands.projects import Scope, opened, read_as, told
from threadloom.db.rows import FileRow
from threadloom.db.tx import PageQuery, ProjectTx
from threadloom.errors import StartError
from threadloom.files import actions
from threadloom.files.strays import keep, new_blob
from threadloom.types.files import File, FileCreate
from threadloom.types.shared import Deleted, Page

PIECE = 1024 * 1024


@dataclass(frozen=True)
class Downloaded:
    """Where a file's bytes are now."""

    id: str
    path: str
    bytes: int


async def page(scope: Scope, query: PageQuery, purpose: str | None) -> Page[File]:
    async with opened(scope) as database:
        return await api.list_files(query, database, purpose)


async def show(scope: Scope, file_id: str) -> File:
    async with opened(scope) as database:
        return await api.retrieve_file(file_id, database)


async def upload(scope: Scope, path: Path, *, name: str | None, purpose: str) -> File:
    """Raises StartError."""
    with told():
        body = read_as(FileCreate, {"file": name or path.name, "purpose": purpose})
    if not path.is_file():  # noqa: ASYNC240 - nothing else is done meanwhile
        raise StartError(f"There is no file {path}.")
    limit = scope.settings.files.max_bytes
    blobs = open_blobs(scope.settings)
    async with opened(scope, make=True) as database, new_blob(database.database, blobs) as key:
        size = await blobs.write(key, at_most(limit, pieces_of(path)))
        return File.model_validate(await database.write(create, body, size, key))


async def download(scope: Scope, file_id: str, output: Path | None) -> Downloaded:
    """Write a file's bytes where nothing is yet. Raises StartError."""
    blobs = open_blobs(scope.settings)
    async with opened(scope) as database:
        file = await database.read(actions.show_file, file_id)
        path = output or Path(Path(file["filename"]).name)
        size = await write_new(path, blobs.read(file["blobs"]))
    return Downloaded(file_id, str(path), size)


async def delete(scope: Scope, file_id: str) -> Deleted:
    async with opened(scope) as database:
        return await api.delete_file(file_id, database)


def create(tx: ProjectTx, body: FileCreate, size: int, key: str) -> FileRow:
    keep(tx, key)
    return actions.create_file(tx, filename=body.file, purpose=body.purpose, size=size, blobs=[key])


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """Raises StartError."""
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
    except OSError as error:
        raise StartError(f"Cannot read {path}: {error.strerror}.") from None


async def write_new(path: Path, pieces: AsyncIterator[bytes]) -> int:
    """How many bytes were written; nothing is left behind when not all of them came. Raises StartError."""
    try:
        with await asyncio.to_thread(path.open, "xb") as file:
            try:
                return sum([await asyncio.to_thread(file.write, piece) async for piece in pieces])
            except BaseException:
                path.unlink()  # noqa: ASYNC240 - nothing else is done meanwhile
                raise
    except FileExistsError:
        raise StartError(f"{path} is there already: name another with --output.") from None
    except OSError as error:
        raise StartError(f"Cannot write {path}: {error.strerror}.") from None
