"""Uploads: large files, sent in parts."""

from typing import Annotated

from fastapi import APIRouter, Request

from threadloom.api.context import Db, Server
from threadloom.api.multipart import at_most, form, read_form
from threadloom.api.route import JsonRoute
from threadloom.files import uploads
from threadloom.files.strays import new_blob
from threadloom.types.shared import id_of
from threadloom.types.uploads import (
    Upload,
    UploadComplete,
    UploadCreate,
    UploadPart,
    UploadPartCreate,
)

UploadId = Annotated[str, id_of("upload")]

forms = APIRouter()
router = APIRouter(prefix="/v1/uploads", tags=["Uploads"], route_class=JsonRoute)


@router.post("")
async def create_upload(body: UploadCreate, server: Server, db: Db) -> Upload:
    limit = server.settings.files.max_upload_bytes
    return Upload.model_validate(await db.write(uploads.create_upload, body, max_bytes=limit))


@forms.post("/{upload_id}/parts", openapi_extra=form("data"))
async def add_upload_part(
    upload_id: UploadId, request: Request, server: Server, db: Db
) -> UploadPart:
    limits = server.settings.files
    await db.read(uploads.get_pending, upload_id)
    async with new_blob(server.database, server.blobs) as key:
        sent = await read_form(
            request,
            "data",
            lambda pieces: server.blobs.write(key, at_most(limits.max_part_bytes, pieces)),
        )
        sent.read_as(UploadPartCreate)
        part = await db.write(
            uploads.add_part,
            upload_id,
            key=key,
            size=sent.size,
            max_bytes=limits.max_upload_bytes,
        )
        return UploadPart.model_validate(part)


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: UploadId, body: UploadComplete, server: Server, db: Db
) -> Upload:
    if body.md5 is not None:
        blobs = await db.read(uploads.chosen_blobs, upload_id, body.part_ids)
        await uploads.refuse_other_md5(server.blobs, blobs, body.md5)
    return await db.write(uploads.complete_upload, upload_id, body.part_ids)


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: UploadId, db: Db) -> Upload:
    return Upload.model_validate(await db.write(uploads.cancel_upload, upload_id))


router.include_router(forms)
