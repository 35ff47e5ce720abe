"""What happens to uploads. One transaction each."""

import asyncio
import hashlib
from collections.abc import Sequence

from sqlalchemy import delete, func, select

from threadloom.blobs import Blobs
from threadloom.db.rows import UploadPartRow, UploadRow
from threadloom.db.tx import ProjectTx, Tx
from threadloom.errors import InvalidRequest
from threadloom.files.actions import create_file, seconds_of
from threadloom.files.strays import discard, keep
from threadloom.types.files import File
from threadloom.types.uploads import Upload, UploadCreate

LIFE = 3_600
SENT_AGAIN = 2
"""Parts may have this many times the bytes of the largest upload: clients send a part again when no answer came."""


def create_upload(tx: ProjectTx, body: UploadCreate, *, max_bytes: int) -> UploadRow:
    if body.bytes > max_bytes:
        raise InvalidRequest(
            "Invalid 'bytes': integer above maximum value. "
            f"Expected a value <= {max_bytes}, but got {body.bytes} instead.",
            param="bytes",
            code="integer_above_max_value",
        )
    upload = UploadRow(
        id=tx.ids.new("upload_"),
        project_id=tx.project_id,
        created_at=tx.now,
        purpose=body.purpose,
        filename=body.filename,
        bytes=body.bytes,
        mime_type=body.mime_type,
        status="pending",
        expires_at=tx.now + LIFE,
        file_id=None,
        file_expires_after=seconds_of(body.expires_after),
    )
    tx.session.add(upload)
    tx.session.flush()
    return upload


def get_pending(tx: ProjectTx, upload_id: str, *, lock: bool = False) -> UploadRow:
    """The upload, if something can still be done with it. Raises NotFound and InvalidRequest."""
    upload = tx.get(UploadRow, upload_id, lock=lock)
    status = upload.status
    if status == "pending" and upload.expires_at <= tx.now:
        status = "expired"
    if status != "pending":
        raise InvalidRequest(
            f"The upload '{upload_id}' is {status}: only a pending upload can be changed."
        )
    return upload


def add_part(
    tx: ProjectTx, upload_id: str, *, key: str, size: int, max_bytes: int
) -> UploadPartRow:
    """A part whose bytes are this blob."""
    get_pending(tx, upload_id, lock=True)
    stored = select(func.sum(UploadPartRow.bytes)).where(UploadPartRow.upload_id == upload_id)
    if size + (tx.session.scalar(stored) or 0) > SENT_AGAIN * max_bytes:
        raise InvalidRequest(f"The parts of the upload '{upload_id}' are too large together.")
    part = UploadPartRow(
        id=tx.ids.new("part_"),
        project_id=tx.project_id,
        created_at=tx.now,
        upload_id=upload_id,
        bytes=size,
        blob=key,
    )
    keep(tx, key)
    tx.session.add(part)
    tx.session.flush()
    return part


def complete_upload(tx: ProjectTx, upload_id: str, part_ids: Sequence[str]) -> Upload:
    """Make the file of the chosen parts, without touching their bytes."""
    upload = get_pending(tx, upload_id, lock=True)
    parts = chosen_parts(tx, upload, part_ids)
    used = [part.blob for part in parts]
    file = create_file(
        tx,
        filename=upload.filename,
        purpose=upload.purpose,
        size=upload.bytes,
        blobs=used,
        lifetime=upload.file_expires_after,
    )
    release_parts(tx, upload, used)
    upload.status = "completed"
    upload.file_id = file.id
    return Upload.model_validate(upload).model_copy(update={"file": File.model_validate(file)})


def cancel_upload(tx: ProjectTx, upload_id: str) -> UploadRow:
    upload = get_pending(tx, upload_id, lock=True)
    release_parts(tx, upload)
    upload.status = "cancelled"
    return upload


def expire_upload(tx: Tx, upload: UploadRow) -> None:
    release_parts(tx, upload)
    upload.status = "expired"


def release_parts(tx: Tx, upload: UploadRow, used: Sequence[str] = ()) -> None:
    """Forget the parts; the bytes of those that were not used are swept."""
    gone = delete(UploadPartRow).where(UploadPartRow.upload_id == upload.id)
    blobs = tx.session.scalars(gone.returning(UploadPartRow.blob)).all()
    discard(tx, sorted(set(blobs).difference(used)))


def chosen_blobs(tx: ProjectTx, upload_id: str, part_ids: Sequence[str]) -> list[str]:
    """What the file would consist of. Refused like `complete_upload`."""
    return [part.blob for part in chosen_parts(tx, get_pending(tx, upload_id), part_ids)]


def chosen_parts(
    tx: ProjectTx, upload: UploadRow, part_ids: Sequence[str]
) -> Sequence[UploadPartRow]:
    parts = {part.id: part for part in parts_of(tx, upload)}
    chosen: dict[str, UploadPartRow] = {}
    for place, part_id in enumerate(part_ids):
        if part_id not in parts:
            raise unfit_part(place, UploadPartRow.missing(part_id).message)
        if part_id in chosen:
            raise unfit_part(place, f"The part '{part_id}' is named twice.")
        chosen[part_id] = parts[part_id]
    if (size := sum(part.bytes for part in chosen.values())) != upload.bytes:
        raise InvalidRequest(
            f"The parts have {size} bytes together, but the upload was announced with {upload.bytes} bytes.",
            param="part_ids",
            code="invalid_value",
        )
    return list(chosen.values())


def parts_of(tx: ProjectTx, upload: UploadRow) -> Sequence[UploadPartRow]:
    return tx.session.scalars(
        select(UploadPartRow).where(UploadPartRow.upload_id == upload.id)
    ).all()


def unfit_part(place: int, problem: str) -> InvalidRequest:
    param = f"part_ids[{place}]"
    return InvalidRequest(f"Invalid '{param}': {problem}", param=param, code="invalid_value")


async def refuse_other_md5(blobs: Blobs, keys: Sequence[str], md5: str) -> None:
    """Read the blobs and compare their checksum. Raises InvalidRequest."""
    digest = hashlib.md5(usedforsecurity=False)
    async for piece in blobs.read(keys):
        await asyncio.to_thread(digest.update, piece)
    if digest.hexdigest() != md5.strip().lower():
        raise InvalidRequest(
            f"The md5 checksum of the parts is '{digest.hexdigest()}', not '{md5}'.",
            param="md5",
            code="invalid_value",
        )
