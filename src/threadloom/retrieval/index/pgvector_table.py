"""The table of vectors in PostgreSQL. It is a cache like any index, and Alembic does not know it: SQLite has no such type."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection as Psycopg
from psycopg.types.numeric import Int4, Int8
from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from threadloom.db.engine import connect, is_sqlite
from threadloom.db.failures import said_by
from threadloom.db.migrate import locked
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.retrieval.embedder import Vector
from threadloom.retrieval.index import FileSeqs
from threadloom.retrieval.index.contents import FILES_OF_STORE, read_chunks
from threadloom.retrieval.index.segments import ChunkData, File, windows_in
from threadloom.retrieval.index.vectors import Hits

OLDEST = (0, 8)
"""The first version that goes on looking when a filter leaves too few results."""
EF_SEARCH = 200
SCHEMA = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    """CREATE TABLE index_files (
        store_file_seq bigint PRIMARY KEY,
        vector_store_id text NOT NULL,
        identity text NOT NULL)""",
    "CREATE INDEX ix_index_files_store ON index_files (vector_store_id)",
    """CREATE TABLE index_windows (
        vector_store_id text NOT NULL,
        store_file_seq bigint NOT NULL,
        chunk_seq bigint NOT NULL,
        model text NOT NULL,
        dimensions int NOT NULL,
        embedding halfvec NOT NULL)""",
    "CREATE INDEX ix_index_windows_file ON index_windows (vector_store_id, store_file_seq)",
    "ALTER TABLE index_windows ALTER embedding SET STORAGE MAIN",
)
VERSION = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
IS_THERE = text("SELECT to_regclass('index_windows')")
GONE = text(
    "DELETE FROM index_files f WHERE NOT EXISTS (SELECT FROM vector_store_files v WHERE v.seq = f.store_file_seq) "
    "RETURNING vector_store_id, store_file_seq"
)
WINDOWS_GONE = text(
    "DELETE FROM index_windows WHERE vector_store_id = ANY(:stores) AND store_file_seq = ANY(:files)"
)
HELD = text("SELECT store_file_seq, identity FROM index_files WHERE vector_store_id = :store_id")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:store_id, 7))")
FORGET = (
    text(
        "DELETE FROM index_windows WHERE vector_store_id = :store_id AND store_file_seq = ANY(:seqs)"
    ),
    text("DELETE FROM index_files WHERE store_file_seq = ANY(:seqs)"),
)
REMEMBER = text(
    "INSERT INTO index_files (store_file_seq, vector_store_id, identity) VALUES (:seq, :store_id, :identity)"
)
COPY = (
    "COPY index_windows (vector_store_id, store_file_seq, chunk_seq, model, dimensions, embedding) "
    "FROM STDIN (FORMAT binary)"
)
EXACT = text(
    "SELECT chunk_seq, -(embedding::vector <#> CAST(:query AS vector)) AS score FROM index_windows "
    "WHERE vector_store_id = :store_id AND model = :model AND dimensions = :dimensions "
    "AND store_file_seq = ANY(:files) ORDER BY score DESC LIMIT :count"
)


@dataclass(frozen=True)
class Difference:
    """What the table lacks of a store, with the sizes of the files, and which files it should not have."""

    missing: dict[File, int]
    stale: list[int]


def prepare(engine: Engine) -> None:
    """Make the table. Raises StartError when the database has no vectors."""
    if is_sqlite(engine):
        raise StartError(
            "The setting file_search.index is `pgvector`, which needs PostgreSQL: set database.url."
        )
    try:
        with connect(engine, write=True) as connection, locked(connection):
            # What is there is not touched: even to find that out, it would wait for a graph that is being built.
            if connection.scalar(IS_THERE) is None:
                for statement in SCHEMA:
                    connection.execute(text(statement))
            version = str(connection.scalar(VERSION))
    except DBAPIError as error:
        raise StartError(
            "The setting file_search.index is `pgvector`, but this PostgreSQL has no extension `vector`, or this role "
            f"may not create it: {said_by(error)}"
        ) from None
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise StartError(f"pgvector {version} is too old: 0.8 or later is needed.")


def sweep(tx: Tx) -> None:
    """Remove what is there of files that are gone, if there is a table."""
    connection = tx.session.connection()
    if is_sqlite(connection.engine) or connection.scalar(IS_THERE) is None:
        return
    if gone := connection.execute(GONE).all():
        stores = list({store_id for store_id, _ in gone})
        connection.execute(WINDOWS_GONE, {"stores": stores, "files": [seq for _, seq in gone]})


def difference(tx: Tx, store_id: str) -> Difference:
    rows = tx.session.execute(FILES_OF_STORE, {"store_id": store_id})
    missing = {File(*row[:-1]): row[-1] for row in rows}
    by_identity = {identity(file): file for file in missing}
    stale: list[int] = []
    for seq, known in tx.session.execute(HELD, {"store_id": store_id}):
        if known in by_identity:
            del missing[by_identity[known]]
        else:
            stale.append(seq)
    return Difference(missing, stale)


def identity(file: File) -> str:
    return ":".join(map(str, file))


def write_files(tx: Tx, store_id: str, files: Sequence[File], stale: Sequence[int]) -> None:
    """Put files into the table, unless another process has done so meanwhile."""
    tx.session.execute(LOCK, {"store_id": store_id})
    now = difference(tx, store_id)
    gone = {"store_id": store_id, "seqs": [seq for seq in stale if seq in now.stale]}
    for statement in FORGET:
        tx.session.execute(statement, gone)
    chunks = read_chunks(tx, [file for file in files if file in now.missing])
    new = {file.seq: file for file in files if file in now.missing and file not in chunks.changed}
    if not new:
        return
    tx.session.execute(
        REMEMBER,
        [
            {"seq": seq, "store_id": store_id, "identity": identity(file)}
            for seq, file in new.items()
        ],
    )
    copy_windows(driver(tx), store_id, [(new[row.file], row) for row in chunks.rows])


def driver(tx: Tx) -> Psycopg[Any]:
    connection: Psycopg[Any] | None = tx.session.connection().connection.driver_connection
    assert connection
    return connection


@contextmanager
def copying() -> Generator[None]:
    """What the driver says while it is used without SQLAlchemy is told as SQLAlchemy tells it: there may be no room."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError(COPY, None, error) from error


def copy_windows(
    connection: Psycopg[Any], store_id: str, rows: Sequence[tuple[File, ChunkData]]
) -> None:
    with copying(), connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for file, row in rows:
            before = (store_id, Int8(file.seq), Int8(row.seq), file.model, Int4(file.dimensions))
            if windows_in(row, file.dimensions):
                for window in halfvecs(row.vectors, file.dimensions):
                    copy.write_row((*before, window))


def halfvecs(vectors: bytes, dimensions: int) -> Iterator[bytes]:
    """Vectors as PostgreSQL takes them: a length, an unused field, and numbers with their high byte first."""
    head = dimensions.to_bytes(2, "big") + bytes(2)
    for window in np.frombuffer(vectors, "<f2").reshape(-1, dimensions).astype(">f2"):
        yield head + window.tobytes()


@dataclass(frozen=True)
class Asked:
    """What is looked for in the table."""

    store_id: str
    model: str
    query: Vector
    count: int
    files: FileSeqs

    def parameters(self) -> dict[str, object]:
        return {
            "store_id": self.store_id,
            "model": self.model,
            "dimensions": self.query.size,
            "query": str(self.query.tolist()),
            "count": self.count,
            "files": self.files.tolist(),
        }


def exact(tx: Tx, asked: Asked) -> Hits:
    """Chunks of the best windows; every window of these files is looked at."""
    return hits(tx.session.connection(), EXACT, asked)


def approximate(tx: Tx, asked: Asked) -> Hits:
    """The same from the store's graph. It goes on through the graph until enough windows are of these files."""
    connection = tx.session.connection()
    for setting in (
        f"hnsw.ef_search = {EF_SEARCH}",
        "hnsw.iterative_scan = strict_order",
        "hnsw.max_scan_tuples = 200000",
    ):
        connection.exec_driver_sql(f"SET LOCAL {setting}")
    dimensions = asked.query.size
    return hits(connection, approximate_statement(asked.store_id, asked.model, dimensions), asked)


def approximate_statement(store_id: str, model: str, dimensions: int) -> TextClause:
    kind = f"halfvec({dimensions})"
    # PostgreSQL sees that it may use the graph only where its condition stands as it was created, without parameters.
    # The query is said to be text, or it would be rounded to a halfvec before it became a vector.
    nearest = (
        f"SELECT chunk_seq, embedding FROM index_windows WHERE {graph_of(store_id, model, dimensions)} "  # noqa: S608
        "AND store_file_seq = ANY(:files) "
        f"ORDER BY embedding::{kind} <#> CAST(:query AS text)::{kind} LIMIT :count"
    )
    return text(
        "SELECT chunk_seq, -(embedding::vector <#> CAST(:query AS text)::vector) AS score "  # noqa: S608
        f"FROM ({nearest}) nearest ORDER BY score DESC"
    )


def graph_of(store_id: str, model: str, dimensions: int) -> str:
    return (
        f"vector_store_id = {literal(store_id)} AND model = {literal(model)} "
        f"AND dimensions = {dimensions}"
    )


def literal(value: str) -> str:
    """A string in SQL; a colon before a word would be a parameter."""
    return "'" + value.replace("'", "''").replace(":", "\\:") + "'"


def hits(connection: Connection, statement: TextClause, asked: Asked) -> Hits:
    rows = connection.execute(statement, asked.parameters()).all()
    found: NDArray[np.int64] = np.array([row[0] for row in rows], np.int64)
    return found, np.array([row[1] for row in rows], np.float32)
