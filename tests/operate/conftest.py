"""A server that is well."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.faults.processes import until
from tests.support.server import Running, running_server
from threadloom import processes
from threadloom.db.tx import Tx
from threadloom.testing import ScriptedModel, ScriptedModels


def is_there(tx: Tx) -> bool:
    return bool(processes.processes(tx))


@asynccontextmanager
async def at_work(server: Running) -> AsyncGenerator[Running]:
    """As `threadloom serve` runs: it says that it is there."""
    async with processes.present(server.database, "both"):
        await until(lambda: server.database.read(is_there), "it said so")
        yield server


@pytest.fixture
async def working(server: Running) -> AsyncGenerator[Running]:
    """On each database."""
    async with at_work(server):
        yield server


@pytest.fixture
async def small(sqlite_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """On SQLite only, where the database makes no difference."""
    async with running_server(sqlite_url, ScriptedModels(model)) as server, at_work(server):
        yield server
