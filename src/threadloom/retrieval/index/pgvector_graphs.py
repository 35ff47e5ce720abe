"""Graphs (HNSW) over the windows of large stores: each has one of its own, so that small ones need none and lose nothing."""

from typing import Any
from zlib import crc32

from psycopg import Connection as Psycopg
from sqlalchemy import Connection, Engine, text

from threadloom.retrieval.index.pgvector_table import graph_of

PREFIX = "hnsw_"
TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 8))")
UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended(:name, 8))")
IS_VALID = text(
    "SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relname = :name"
)
GONE = text(
    "SELECT indexname FROM pg_indexes WHERE tablename = 'index_windows' AND starts_with(indexname, 'hnsw_') "
    "AND NOT EXISTS (SELECT FROM vector_stores WHERE starts_with(indexname, 'hnsw_' || id || '_'))"
)


class Graphs:
    """Builds and removes graphs, on a connection of its own: neither may happen in a transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._driver: Psycopg[Any] | None = None

    def build(self, store_id: str, model: str, dimensions: int) -> bool:
        """Make the store's graph unless it is there. Takes minutes. False says that another process is making it."""
        name = graph_name(store_id, model, dimensions)
        with self._connection() as connection:
            if not connection.scalar(TRY_LOCK, {"name": name}):
                return False
            try:
                if not connection.scalar(IS_VALID, {"name": name}):
                    # One that is there but not valid was left by a process that was killed while it built.
                    connection.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
                    connection.execute(text(statement(name, store_id, model, dimensions)))
            finally:
                connection.execute(UNLOCK, {"name": name})
        return True

    def sweep(self) -> None:
        """Remove the graphs of stores that are gone."""
        with self._connection() as connection:
            for name in connection.scalars(GONE).all():
                connection.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')

    def cancel(self) -> None:
        """Let what is being built be."""
        if self._driver:
            self._driver.cancel_safe()

    def _connection(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        driver = connection.connection.driver_connection
        self._driver = driver if isinstance(driver, Psycopg) else None
        return connection


def graph_name(store_id: str, model: str, dimensions: int) -> str:
    return f"{PREFIX}{store_id}_{crc32(f'{model}:{dimensions}'.encode()):08x}"


def statement(name: str, store_id: str, model: str, dimensions: int) -> str:
    return (
        f'CREATE INDEX CONCURRENTLY "{name}" ON index_windows '
        f"USING hnsw ((embedding::halfvec({dimensions})) halfvec_ip_ops) "
        f"WHERE {graph_of(store_id, model, dimensions)}"
    )
