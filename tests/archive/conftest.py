"""Two empty servers' worth of databases, and the command line on each."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from tests.commands.running import Commands
from tests.support.postgres import Postgres, sqlalchemy_url


@dataclass(frozen=True)
class Place:
    """Where a server keeps its data."""

    folder: Path
    url: str

    @property
    def commands(self) -> Commands:
        return Commands(
            {
                "THREADLOOM_DATABASE__URL": self.url,
                "THREADLOOM_DATA_DIR": str(self.folder),
                "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none",
                "COLUMNS": "200",
            }
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(
    request: pytest.FixtureRequest, migrated_sqlite: Path, tmp_path: Path
) -> Generator[Callable[[], Place]]:
    """Makes places, each empty: on both databases."""
    with ExitStack() as stack:
        made: list[Place] = []

        def make() -> Place:
            folder = tmp_path / f"place-{len(made)}"
            folder.mkdir()
            if request.param == "sqlite":
                path = folder / "threadloom.db"
                path.write_bytes(migrated_sqlite.read_bytes())
                url = f"sqlite:///{path}"
            else:
                server: Postgres = request.getfixturevalue("postgres")
                url = sqlalchemy_url(stack.enter_context(server.database()))
            made.append(Place(folder, url))
            return made[-1]

        yield make


@pytest.fixture
def sqlite_place(migrated_sqlite: Path, tmp_path: Path) -> Place:
    """An empty place; what is tried there has nothing to do with the database."""
    folder = tmp_path / "place"
    folder.mkdir()
    path = folder / "threadloom.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    return Place(folder, f"sqlite:///{path}")


@pytest.fixture(autouse=True)
def no_log_of_the_server() -> Generator[None]:
    """It would stand in what commands print: they are run in the server's process."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()
