"""Fixtures: the server on each database, clients, a scripted model."""

import gc
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from openai import AsyncOpenAI
from sqlalchemy import text

from tests.support.engine import need_engine
from tests.support.postgres import Postgres, running_postgres, sqlalchemy_url
from tests.support.server import Running, running_server
from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade
from threadloom.testing import ScriptedModel, ScriptedModels

pytest_plugins = ("tests.support.secrecy",)
LONG = ("faults", "container", "sandbox", "compat", "tests", "index", "parsing", "retrieval")
SHORT = ("runs", "contract", "llm")
"""Folders whose longest file takes a minute, and those whose longest takes some seconds."""


gc.set_threshold(50_000, 10, 20)


def pytest_collection_finish() -> None:
    """Look for garbage seldom, and not among what was imported: that was a quarter of the tests' processor time."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: place_of(item.path.parent.name))


def place_of(folder: str) -> int:
    if folder in LONG:
        return LONG.index(folder) - len(LONG)
    return SHORT.index(folder) + 1 if folder in SHORT else 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker"):
        need_engine()


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    with running_postgres(outlives_power_cuts=False) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = create_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite file."""
    path = tmp_path / "threadloom.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Generator[str]:
    """A fresh, migrated database: every test that uses it runs on both."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        with server.database() as url:
            yield sqlalchemy_url(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """A database without tables: also on both."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as made:
        engine = create_engine(sqlalchemy_url(made))
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        yield sqlalchemy_url(made)


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    async with running_server(database_url, ScriptedModels(model)) as running:
        yield running


@pytest.fixture
async def client(server: Running) -> AsyncGenerator[AsyncOpenAI]:
    """The official SDK."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(server.openai())


@pytest.fixture
async def http(server: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    """Raw HTTP, because the SDK validates nothing."""
    async with server.http() as raw:
        yield raw
