"""What rows say of a store: which files a search may find, and their chunks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, bindparam, func, select

from threadloom.db.rows import ChunkRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.index.segments import ChunkData, File

BATCH_BYTES = 8 * 1024**2
BATCH_FILES = 200

FILES = (
    select(
        VectorStoreFileRow.seq,
        VectorStoreFileRow.epoch,
        func.coalesce(ChunkRow.seq, 0),
        VectorStoreFileRow.file_id,
        func.coalesce(VectorStoreFileRow.embedding_model, ""),
        func.coalesce(VectorStoreFileRow.dimensions, 0),
        VectorStoreFileRow.usage_bytes,
    )
    .outerjoin(
        ChunkRow,
        and_(ChunkRow.store_file_seq == VectorStoreFileRow.seq, ChunkRow.position == 0),
    )
    .where(VectorStoreFileRow.status == "completed")
)
FILES_OF_STORE = FILES.where(VectorStoreFileRow.vector_store_id == bindparam("store_id")).order_by(
    VectorStoreFileRow.seq
)
FILES_BY_SEQ = FILES.where(VectorStoreFileRow.seq.in_(bindparam("seqs", expanding=True)))
GENERATION = select(VectorStoreRow.generation).where(VectorStoreRow.id == bindparam("store_id"))
CHUNKS = (
    select(
        ChunkRow.seq,
        ChunkRow.store_file_seq,
        func.length(ChunkRow.vectors),
        ChunkRow.vectors,
        ChunkRow.terms,
    )
    .where(ChunkRow.store_file_seq.in_(bindparam("seqs", expanding=True)))
    .order_by(ChunkRow.store_file_seq, ChunkRow.position)
)
WORDS = CHUNKS.with_only_columns(
    ChunkRow.seq, ChunkRow.store_file_seq, func.length(ChunkRow.vectors), ChunkRow.terms
)


@dataclass(frozen=True)
class Contents:
    """The completed files of a store, each with its size in bytes, at one generation at least."""

    generation: int
    files: Mapping[File, int]


class Chunks(NamedTuple):
    """The chunks of files. `changed` are files that are not any more what they were: theirs are not among them."""

    rows: Sequence[ChunkData]
    changed: frozenset[File]


def read_contents(tx: Tx, store_id: str) -> Contents | None:
    """None when there is no such store."""
    # The generation is read first: at worst the files are newer, and are looked at once more.
    generation = tx.session.scalar(GENERATION, {"store_id": store_id})
    if generation is None:
        return None
    rows = tx.session.execute(FILES_OF_STORE, {"store_id": store_id})
    return Contents(generation, {File(*row[:-1]): row[-1] for row in rows})


def read_chunks(tx: Tx, files: Sequence[File]) -> Chunks:
    seqs = {"seqs": [file.seq for file in files]}
    # The files are read after their chunks: one that was ingested anew in between is found to be another one.
    rows = [ChunkData(*row) for row in tx.session.execute(CHUNKS, seqs)]
    return unchanged(tx, files, rows)


def read_words(tx: Tx, files: Sequence[File]) -> Chunks:
    """The chunks without their vectors."""
    seqs = {"seqs": [file.seq for file in files]}
    rows = [
        ChunkData(seq, file, size, b"", terms)
        for seq, file, size, terms in tx.session.execute(WORDS, seqs)
    ]
    return unchanged(tx, files, rows)


def unchanged(tx: Tx, files: Sequence[File], rows: Sequence[ChunkData]) -> Chunks:
    seqs = {"seqs": [file.seq for file in files]}
    now = {File(*row[:-1]) for row in tx.session.execute(FILES_BY_SEQ, seqs)}
    changed = frozenset(files) - now
    gone = {file.seq for file in changed}
    return Chunks([row for row in rows if row.file not in gone], changed)


def batches(files: Sequence[File], sizes: Mapping[File, int]) -> Iterator[Sequence[File]]:
    """Files whose chunks are read together: a batch holds up no other reader for long."""
    batch: list[File] = []
    left = BATCH_BYTES
    for file in files:
        batch.append(file)
        left -= sizes[file]
        if left <= 0 or len(batch) == BATCH_FILES:
            yield batch
            batch, left = [], BATCH_BYTES
    if batch:
        yield batch
