"""Files."""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from threadloom import faults
from threadloom.api.context import Db, Server, page_of
from threadloom.api.multipart import Form, at_most, form, read_form
from threadloom.blobs import Blobs
from threadloom.db.rows import FileRow
from threadloom.db.tx import Order, PageQuery, ProjectTx, Shown
from threadloom.errors import InvalidRequest
from threadloom.files import actions
from threadloom.files.media import media_type
from threadloom.files.strays import keep, new_blob
from threadloom.types.files import File, FileCreate
from threadloom.types.shared import Deleted, Page

router = APIRouter(prefix="/v1/files", tags=["Files"])


async def file_query(
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
    after: str | None = None,
) -> PageQuery:
    return PageQuery(limit, order, after)


@router.post("", openapi_extra=form("file", "purpose"))
async def create_file(request: Request, server: Server, db: Db) -> File:
    limit = server.settings.files.max_bytes
    async with new_blob(server.database, server.blobs) as key:
        sent = await read_form(
            request, "file", lambda pieces: server.blobs.write(key, at_most(limit, pieces))
        )
        faults.point("file.written")
        return File.model_validate(await db.write(create, sent, sent.read_as(FileCreate), key))


@router.get("")
async def list_files(
    query: Annotated[PageQuery, Depends(file_query)], db: Db, purpose: str | None = None
) -> Page[File]:
    return page_of(File, await db.read(actions.page_files, query, purpose))


@router.get("/{file_id}")
async def retrieve_file(file_id: str, db: Db) -> File:
    return File.model_validate(await db.read(actions.show_file, file_id))


@router.get("/{file_id}/content", response_class=Response)
async def retrieve_file_content(file_id: str, server: Server, db: Db) -> Response:
    file = await db.read(downloadable, file_id, all_of_them=server.settings.files.download_all)
    return await download(server.blobs, file)


@router.delete("/{file_id}")
async def delete_file(file_id: str, db: Db) -> Deleted:
    await db.write(actions.delete_file, file_id)
    return Deleted(id=file_id, object="file", deleted=True)


def create(tx: ProjectTx, sent: Form, body: FileCreate, key: str) -> FileRow:
    keep(tx, key)
    return actions.create_file(
        tx,
        filename=body.file,
        purpose=body.purpose,
        size=sent.size,
        blobs=[key],
        lifetime=actions.seconds_of(body.expires_after),
    )


def downloadable(tx: ProjectTx, file_id: str, *, all_of_them: bool) -> Shown:
    file = actions.show_file(tx, file_id)
    if file["purpose"] in actions.REFUSED_BY_OPENAI and not all_of_them:
        raise InvalidRequest(f"Not allowed to download files of purpose: {file['purpose']}")
    return file


async def download(blobs: Blobs, file: Shown) -> Response:
    """The bytes as they are read; the first of them before the answer begins, because they may be missing."""
    pieces = blobs.read(file["blobs"])
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {
        "content-type": media_type(file["filename"], first),
        "content-length": str(file["bytes"]),
        "content-disposition": attachment(file["filename"]),
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(all_pieces(), headers=headers)


def attachment(filename: str) -> str:
    """RFC 6266: a name in ASCII for those who read no other, then the name itself."""
    plain = "".join(one if one.isascii() and one not in '"\\%' else "_" for one in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
