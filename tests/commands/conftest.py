"""Commands beside a server that works: both have the same database and data directory."""

from collections.abc import Generator
from pathlib import Path

import pytest
import structlog

from tests.commands.running import Commands
from tests.support.server import Running


@pytest.fixture(autouse=True)
def no_log_of_the_server() -> Generator[None]:
    """It would stand in what commands print: they are run in the server's process."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def threadloom(server: Running, database_url: str) -> Commands:
    """The command line on the server's data."""
    return Commands(
        {
            "THREADLOOM_DATABASE__URL": database_url,
            "THREADLOOM_DATA_DIR": str(server.context.settings.data_dir),
            "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none",
            "COLUMNS": "200",
        }
    )


@pytest.fixture
def alone(migrated_sqlite: Path, tmp_path: Path) -> Commands:
    """The command line on a data directory that nobody else uses, with an empty database."""
    (tmp_path / "threadloom.db").write_bytes(migrated_sqlite.read_bytes())
    return Commands({"THREADLOOM_DATA_DIR": str(tmp_path), "COLUMNS": "200"})
