"""What happens to vector stores: they are made, filled and used, they expire.

Locks are taken in this order, or two transactions would wait for each other: file, assistant or thread, vector store,
file in it. So whoever changes what a search may find locks the store, or calls `raise_generation`, before touching the
files in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, select, update

from threadloom.db.rows import (
    FileRow,
    StrayChunksRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from threadloom.db.tx import ProjectTx, Tx
from threadloom.errors import InvalidRequest, NotFound
from threadloom.files.actions import is_alive
from threadloom.retrieval.parsing.formats import extension, supported
from threadloom.types.vector_stores import (
    ExpiresAfter,
    FileCreate,
    expiry,
    sizes,
)
from threadloom.webhooks.stores import batches_left, files_ended, leaving

INGESTION = "ingestion"
"""The channel that wakes workers: a file is due for ingestion. A store's own id is woken when one of its files is done."""
MAX_FILES = 10_000
NOTED_EVERY = 60
"""Seconds between two notes that a store is in use."""
RAISE_GENERATION = (
    update(VectorStoreRow)
    .where(VectorStoreRow.id == bindparam("store_id"))
    .values(generation=VectorStoreRow.generation + 1)
    .execution_options(synchronize_session=False)
)


def new_store(
    tx: ProjectTx,
    *,
    name: str | None = None,
    description: str | None = None,
    expires_after: ExpiresAfter | None = None,
    metadata: Mapping[str, str] | None = None,
) -> VectorStoreRow:
    store = VectorStoreRow(
        id=tx.ids.new("vs_"),
        project_id=tx.project_id,
        created_at=tx.now,
        name=name,
        description=description,
        expires_after=expires_after,
        last_active_at=tx.now,
        metadata_=dict(metadata or {}),
        sweep_at=expiry(expires_after, tx.now),
    )
    tx.session.add(store)
    tx.session.flush()
    return store


# Use and expiry


def is_expired(store: VectorStoreRow, now: int) -> bool:
    expires_at = expiry(store.expires_after, store.last_active_at)
    return expires_at is not None and now >= expires_at


def refuse_expired(tx: Tx, store: VectorStoreRow) -> None:
    if is_expired(store, tx.now):
        raise InvalidRequest(f"Vector store '{store.id}' has expired.")


def expired(tx: Tx, store_ids: Sequence[str]) -> list[str]:
    """Those of the stores that have expired."""
    rows = tx.session.scalars(select(VectorStoreRow).where(VectorStoreRow.id.in_(store_ids)))
    return [row.id for row in rows if is_expired(row, tx.now)]


def is_unnoted(tx: ProjectTx, store_id: str) -> bool:
    """Whether `touch` would note that the store is in use. Raises NotFound, and InvalidRequest when it has expired."""
    store = tx.get(VectorStoreRow, store_id)
    refuse_expired(tx, store)
    return store.last_active_at <= tx.now - NOTED_EVERY


def touch(tx: Tx, store_ids: Sequence[str]) -> None:
    """Note that stores are in use, which puts off their expiry. Cheap: once a minute is enough."""
    unnoted = (
        select(VectorStoreRow)
        .where(VectorStoreRow.id.in_(store_ids))
        .where(VectorStoreRow.last_active_at <= tx.now - NOTED_EVERY)
        .order_by(VectorStoreRow.seq)
        .with_for_update(key_share=True)
    )
    for store in tx.session.scalars(unnoted):
        note_use(tx, store)


def note_use(tx: Tx, store: VectorStoreRow) -> None:
    if not is_expired(store, tx.now):
        store.last_active_at = tx.now
        store.sweep_at = expiry(store.expires_after, tx.now)


def raise_generation(tx: Tx, store_id: str) -> None:
    """Say that a search may find something else from now on; this locks the store."""
    tx.session.execute(RAISE_GENERATION, {"store_id": store_id})


# Files go in


def attach(
    tx: ProjectTx,
    store_id: str,
    files: Sequence[FileCreate],
    *,
    tables: bool,
    batch_id: str | None = None,
) -> None:
    """Put files into a store, to be ingested.

    A file that is there already is kept, with its new attributes if it is given some. It is taken in anew only if it is
    to be cut otherwise, or did not come to its end.
    """
    tx.show(VectorStoreRow, store_id)
    refuse_unfit(tx, [file.file_id for file in files], tables=tables)
    store = tx.get(VectorStoreRow, store_id, lock=True)
    refuse_expired(tx, store)
    fill(tx, store, files, batch_id)
    note_use(tx, store)


def refuse_unfit(tx: ProjectTx, file_ids: Iterable[str], *, tables: bool) -> None:
    """Refuse files that are not there or that file search cannot read; the others stay while this transaction lasts."""
    names = file_names(tx, file_ids)
    unfit = {
        extension(name) or "none" for name in names.values() if not supported(name, tables=tables)
    }
    if unfit:
        raise InvalidRequest(
            f"Files with extensions [{', '.join(sorted(unfit))}] are not supported for retrieval. See "
            "https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
            param="file_ids",
            code="unsupported_file",
        )


def file_names(tx: ProjectTx, file_ids: Iterable[str]) -> dict[str, str]:
    """The names of files, by id. Raises NotFound."""
    wanted = list(dict.fromkeys(file_ids))
    if not wanted:
        return {}
    found = tx.session.execute(
        select(FileRow.id, FileRow.filename)
        .where(FileRow.id.in_(wanted), FileRow.project_id == tx.project_id, is_alive(tx))
        .order_by(FileRow.seq)
        .with_for_update(read=True, key_share=True)
    )
    names = {file.id: file.filename for file in found}
    if missing := [file_id for file_id in wanted if file_id not in names]:
        raise NotFound(f"Files [{', '.join(missing)}] were not found")
    return names


def fill(
    tx: ProjectTx,
    store: VectorStoreRow,
    files: Sequence[FileCreate],
    batch_id: str | None = None,
) -> None:
    """Put files that are fit for it into a locked store."""
    wanted = {row_id(store.id, file.file_id): file for file in files}
    there = select(VectorStoreFileRow).where(VectorStoreFileRow.id.in_(list(wanted)))
    present = {row.id: row for row in tx.session.scalars(there)}
    kept = [row for at, row in present.items() if is_fine(row, wanted[at])]
    keep(tx, kept, wanted, batch_id)
    fine = {row.id for row in kept}
    remove(tx, [row for at, row in present.items() if at not in fine])
    new = [file for at, file in wanted.items() if at not in fine]
    if new:
        refuse_too_many(tx, store, len(new))
        # At the connection, because a session takes three times as long, and they may be thousands.
        rows = [new_file(tx, store, file, batch_id) for file in new]
        tx.session.connection().execute(insert(VectorStoreFileRow), rows)
        tx.wake(INGESTION)


def row_id(store_id: str, file_id: str) -> str:
    return f"{store_id}/{file_id}"


def is_fine(row: VectorStoreFileRow, file: FileCreate) -> bool:
    """Whether a file need not be taken in again."""
    return row.status in {"in_progress", "completed"} and row.chunking_strategy == sizes(
        file.chunking_strategy
    )


def keep(
    tx: Tx,
    rows: Sequence[VectorStoreFileRow],
    wanted: Mapping[str, FileCreate],
    batch_id: str | None,
) -> None:
    """Files that are there already; each belongs to the batch that named it last."""
    if batch_id is not None:
        update_files(tx, rows, batch_id=batch_id)
        batches_left(tx, leaving(rows))
    for row in rows:
        attributes = wanted[row.id].attributes
        if attributes is not None and attributes != row.attributes:
            set_attributes(tx, row, attributes)


def update_files(tx: Tx, rows: Sequence[VectorStoreFileRow], **values: object) -> None:
    """The same values for all of them, in one statement: they may be thousands."""
    tx.session.execute(
        update(VectorStoreFileRow)
        .where(VectorStoreFileRow.seq.in_([row.seq for row in rows]))
        .values(values)
        .execution_options(synchronize_session=False)
    )


def set_attributes(tx: Tx, row: VectorStoreFileRow, attributes: Mapping[str, Any]) -> None:
    raise_generation(tx, row.vector_store_id)
    row.attributes = dict(attributes)


def refuse_too_many(tx: Tx, store: VectorStoreRow, new: int) -> None:
    of_store = VectorStoreFileRow.vector_store_id == store.id
    there = tx.session.scalar(select(func.count()).where(of_store)) or 0
    if there + new > MAX_FILES:
        raise InvalidRequest(
            f"Vector store '{store.id}' has {there} files and cannot take {new} more. The maximum is {MAX_FILES}."
        )


def new_file(
    tx: ProjectTx, store: VectorStoreRow, file: FileCreate, batch_id: str | None
) -> dict[str, object]:
    return {
        "id": row_id(store.id, file.file_id),
        "project_id": tx.project_id,
        "created_at": tx.now,
        "vector_store_id": store.id,
        "file_id": file.file_id,
        "batch_id": batch_id,
        "status": "in_progress",
        "usage_bytes": 0,
        "attributes": file.attributes or {},
        "chunking_strategy": sizes(file.chunking_strategy),
        "due_at": tx.clock.now(),
    }


# Files go out


def delete_store(tx: Tx, store: VectorStoreRow) -> None:
    """The batches and files of a locked store go with it, their chunks a little later."""
    discard_chunks(tx, VectorStoreFileRow.vector_store_id == store.id)
    tx.delete(store)
    tx.wake(store.id)


def remove(tx: Tx, rows: Sequence[VectorStoreFileRow]) -> None:
    """Take files out of their locked stores. Whoever ingests one loses its lease."""
    if not rows:
        return
    for store_id in sorted({row.vector_store_id for row in rows}):
        raise_generation(tx, store_id)
        tx.wake(store_id)
    of_rows = VectorStoreFileRow.seq.in_([row.seq for row in rows])
    discard_chunks(tx, of_rows)
    tx.session.execute(
        delete(VectorStoreFileRow).where(of_rows).execution_options(synchronize_session=False)
    )
    batches_left(tx, leaving(rows))


def give_up(tx: Tx, *conditions: ColumnElement[bool]) -> None:
    """End what is being ingested in locked stores. Whoever does it loses its lease."""
    unfinished = (
        select(VectorStoreFileRow)
        .where(VectorStoreFileRow.status == "in_progress", *conditions)
        .order_by(VectorStoreFileRow.seq)
        .with_for_update()
    )
    rows = tx.session.scalars(unfinished).all()
    discard_chunks(tx, VectorStoreFileRow.seq.in_([row.seq for row in rows]))
    update_files(tx, rows, status="cancelled", due_at=None, epoch=VectorStoreFileRow.epoch + 1)
    files_ended(tx, [row.id for row in rows], "cancelled")
    for row in rows:
        tx.wake(row.vector_store_id)


def discard_chunks(tx: Tx, *conditions: ColumnElement[bool]) -> None:
    """Have the chunks of files removed, when there is time for it."""
    known = exists().where(StrayChunksRow.store_file_seq == VectorStoreFileRow.seq)
    tx.session.execute(
        insert(StrayChunksRow).from_select(
            ["store_file_seq"], select(VectorStoreFileRow.seq).where(*conditions, ~known)
        )
    )
