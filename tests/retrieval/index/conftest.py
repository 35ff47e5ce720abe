"""Every index, on every database."""

from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pytest

from tests.retrieval.index.checks import SettledIndex
from tests.runs.workers import opened
from threadloom.db.database import Database
from threadloom.retrieval.index import Index
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.snapshots import Policy

MEMORY = 2**30
PACKED = Policy(shrink=3, large=30, scan=60)
"""Does with few vectors what is otherwise done with many."""


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with opened(database_url) as one:
        yield one


@pytest.fixture(params=["flat", "packed"])
async def index(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> AsyncGenerator[Index]:
    directory = tmp_path / "index"
    made: dict[str, Index] = {
        "flat": FaissIndex(database, directory, MEMORY),
        "packed": SettledIndex(database, directory, MEMORY, PACKED),
    }
    yield made[request.param]
    for one in made.values():
        await one.close()


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(7)
