"""Blobs that no row refers to: each is known before its first byte is written, so that a crash leaves none behind."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import delete, update

from threadloom.blobs import Blobs
from threadloom.db.database import Database
from threadloom.db.insert import insert_missing
from threadloom.db.rows import StrayBlobRow
from threadloom.db.tx import Tx
from threadloom.errors import InvalidRequest

WRITTEN_WITHIN = 86_400
"""Seconds that bytes may take to arrive."""
HELD = "backup-"
"""What the keys of entries begin with that are no blobs: as long as one is not due, no blob is removed. A backup reads them."""
HELD_FOR = 600.0
"""Seconds for which an entry of a backup holds; it is renewed while the backup works."""


@asynccontextmanager
async def new_blob(database: Database, blobs: Blobs) -> AsyncGenerator[str]:
    """A key to write to; its bytes go away again unless the block calls `keep` and ends well."""
    key = blobs.new_key()
    await database.write(register, key)
    try:
        yield key
    except BaseException:
        await database.write(abandon, key)
        raise


def register(tx: Tx, key: str) -> None:
    tx.session.add(StrayBlobRow(key=key, due_at=tx.clock.now() + WRITTEN_WITHIN))


def abandon(tx: Tx, key: str) -> None:
    tx.session.execute(
        update(StrayBlobRow).where(StrayBlobRow.key == key).values(due_at=tx.clock.now())
    )


def keep(tx: Tx, key: str) -> None:
    """From here on a row refers to the blob. Refused when it may be swept already."""
    kept = delete(StrayBlobRow).where(StrayBlobRow.key == key, StrayBlobRow.due_at > tx.clock.now())
    if not tx.session.scalars(kept.returning(StrayBlobRow.key)).all():
        raise InvalidRequest("The file took longer than a day to arrive.")


def discard(tx: Tx, keys: Sequence[str]) -> None:
    """No row refers to these blobs any more."""
    if keys:
        insert_missing(tx.session, StrayBlobRow, [(key, tx.clock.now()) for key in keys])
