"""Every index, on every database."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import numpy as np
import pytest

from tests.retrieval.index.checks import SettledIndex
from tests.runs.workers import opened
from tests.support.postgres import Postgres, sqlalchemy_url
from threadloom.db.database import Database
from threadloom.retrieval.index import Index
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.pgvector_index import PgvectorIndex
from threadloom.retrieval.index.pgvector_table import prepare
from threadloom.retrieval.index.snapshots import Policy

MEMORY = 2**30
PACKED = Policy(shrink=3, large=30, scan=60)
"""Does with few vectors what is otherwise done with many."""


KINDS = [
    "flat on sqlite",
    "flat on postgresql",
    "packed on sqlite",
    "pgvector on postgresql",
    "pgvector with graphs on postgresql",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which index, on which database."""
    return request.param


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    if kind.endswith("sqlite"):
        path = tmp_path / "threadloom.db"
        template: Path = request.getfixturevalue("migrated_sqlite")
        path.write_bytes(template.read_bytes())
        yield f"sqlite:///{path}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        with server.database() as url:
            yield sqlalchemy_url(url)


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def index(kind: str, database: Database, tmp_path: Path) -> AsyncGenerator[Index]:
    one = open_kind(kind, database, tmp_path / "index")
    yield one
    await one.close()


def open_kind(kind: str, database: Database, directory: Path) -> Index:
    match kind.partition(" on ")[0]:
        case "flat":
            return FaissIndex(database, directory, MEMORY)
        case "packed":
            return SettledIndex(database, directory, MEMORY, PACKED)
        case "pgvector":
            prepare(database.engine)
            return PgvectorIndex(database, directory, MEMORY)
        case _:
            prepare(database.engine)
            return PgvectorIndex(database, directory, MEMORY, PACKED)


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(7)
