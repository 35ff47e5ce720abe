"""One look at the database as it is: nothing is made, migrated or locked by it. For `doctor` and `status`."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, make_url

from threadloom.config import Settings
from threadloom.db.clock import DatabaseClock
from threadloom.db.database import open_session
from threadloom.db.engine import connect, create_engine, is_sqlite
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.ids import RandomIds


def sqlite_file(settings: Settings) -> Path | None:
    """None on PostgreSQL."""
    url = make_url(settings.database_url)
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


@contextmanager
def opened(settings: Settings) -> Generator[Engine]:
    """Raises StartError when there is no database yet: SQLite would make one."""
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise StartError(
            f"There is no database at {file} yet: the first `threadloom serve` makes it."
        )
    engine = create_engine(settings.database_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def snapshot(engine: Engine) -> Generator[Tx]:
    """A transaction that only reads, at the database's time. Raises DBAPIError."""
    clock = DatabaseClock()
    clock.follow(engine)
    with (
        connect(engine) as connection,
        connection.begin(),
        open_session(connection) as session,
    ):
        yield Tx(session, clock, RandomIds())


def kind_of(engine: Engine) -> str:
    return "SQLite" if is_sqlite(engine) else "PostgreSQL"
