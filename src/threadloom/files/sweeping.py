"""What nobody asks for: the end of files and uploads that expired, and of bytes that no row refers to."""

from collections.abc import Sequence

import structlog
from sqlalchemy import delete, select, update

from threadloom.blobs import Blobs
from threadloom.db.database import Database
from threadloom.db.rows import IS_PENDING, FileRow, StrayBlobRow, UploadRow
from threadloom.db.tx import Tx
from threadloom.errors import StorageUnavailable
from threadloom.files.actions import remove
from threadloom.files.strays import HELD
from threadloom.files.uploads import expire_upload

ROWS = 50
BLOBS = 500
ROUNDS = 20
FAILURES = 3
"""After so many the store is taken to answer nobody: each may have taken half a minute."""
PUT_OFF = 3_600.0
"""Seconds after which bytes that could not be removed are tried again; until then they keep no others."""
SKEW = 60
"""Seconds that the clocks of two processes may differ: who keeps a blob looks at the same time as who sweeps it."""
log = structlog.get_logger()


async def sweep(database: Database, blobs: Blobs) -> None:
    """A bounded share of what is due. Any number of processes may sweep at once."""
    for step in (expire_files, expire_uploads):
        for _ in range(ROUNDS):
            if await database.write(step) < ROWS:
                break
    try:
        for _ in range(ROUNDS):
            if await remove_strays(database, blobs) < BLOBS:
                break
    except StorageUnavailable as error:
        log.warning("blobs not swept", reason=type(error.__cause__).__name__)


def expire_files(tx: Tx) -> int:
    """What DELETE does, for files whose time has come."""
    due = select(FileRow).where(FileRow.expires_at <= tx.now).order_by(FileRow.expires_at)
    files = tx.session.scalars(due.limit(ROWS).with_for_update(skip_locked=True)).all()
    for file in files:
        remove(tx, file)
    return len(files)


def expire_uploads(tx: Tx) -> int:
    due = select(UploadRow).where(IS_PENDING, UploadRow.expires_at <= tx.now)
    uploads = tx.session.scalars(
        due.order_by(UploadRow.expires_at).limit(ROWS).with_for_update(skip_locked=True)
    ).all()
    for upload in uploads:
        expire_upload(tx, upload)
    return len(uploads)


async def remove_strays(database: Database, blobs: Blobs, skew: float = SKEW) -> int:
    """Answers with how many are gone; raises StorageUnavailable when none could be removed.

    First the bytes, then the rows: a crash in between only means to do it again.
    """
    keys = await database.read(due_strays, skew)
    if not keys:
        return 0
    try:
        await blobs.delete(keys)
    except StorageUnavailable:
        keys, failed = await remove_each(blobs, keys)
        await database.write(put_off, failed)
        if not keys:
            raise
    await database.write(forget_strays, keys)
    return len(keys)


async def remove_each(blobs: Blobs, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that are gone, and those that could not be removed; after some of these, no more is tried."""
    gone: list[str] = []
    failed: list[str] = []
    for key in keys:
        try:
            await blobs.delete([key])
            gone.append(key)
        except StorageUnavailable as error:
            log.warning("blob not removed", reason=type(error.__cause__).__name__)
            failed.append(key)
        if len(failed) == FAILURES:
            break
    return gone, failed


def due_strays(tx: Tx, skew: float) -> Sequence[str]:
    """Nothing, as long as a backup still reads blobs."""
    before = tx.clock.now() - skew
    held = StrayBlobRow.key.startswith(HELD), StrayBlobRow.due_at > before
    if tx.session.scalar(select(StrayBlobRow.key).where(*held).limit(1)):
        return []
    due = select(StrayBlobRow.key).where(StrayBlobRow.due_at <= before)
    return tx.session.scalars(due.order_by(StrayBlobRow.due_at).limit(BLOBS)).all()


def forget_strays(tx: Tx, keys: Sequence[str]) -> None:
    tx.session.execute(delete(StrayBlobRow).where(StrayBlobRow.key.in_(keys)))


def put_off(tx: Tx, keys: Sequence[str]) -> None:
    later = update(StrayBlobRow).where(StrayBlobRow.key.in_(keys))
    tx.session.execute(later.values(due_at=tx.clock.now() + PUT_OFF))
