"""A server whose answers can be compared whole."""

from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.support.server import Running, running_server
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def still(
    database_url: str, model: ScriptedModel, clock: FrozenClock
) -> AsyncGenerator[Running]:
    """A server where time stands still and ids are counted; it drives no runs."""
    async with running_server(
        database_url, ScriptedModels(model), clock=clock, ids=SequentialIds(), with_worker=False
    ) as running:
        yield running


@pytest.fixture
async def raw(still: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    """Raw HTTP to the server that stands still."""
    async with still.http() as raw:
        yield raw
