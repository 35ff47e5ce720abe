"""A server that may call receivers on this machine, and such a receiver."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from tests.api.wire import Json, post
from tests.support.receiver import LOCAL, Receiver, receiving
from tests.support.server import Running, running_server
from threadloom.api.keys import ensure_project
from threadloom.testing import ScriptedModel, ScriptedModels
from threadloom.types.webhooks import EVENT_TYPES

SETTINGS: dict[str, Any] = {
    "outbound": LOCAL,
    "webhooks": {"pause": 0.05, "timeout": 1.0, "max_endpoints": 3},
}


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    async with running_server(database_url, ScriptedModels(model), settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as running:
        yield running


async def project_of(server: Running) -> str:
    """The id of the project that the server's first key belongs to."""
    return await server.database.write(ensure_project)


async def make_endpoint(http: httpx2.AsyncClient, receiver: Receiver, *types: str) -> Json:
    """An endpoint that is told of these, or of everything."""
    body = {"name": "Test", "url": receiver.url, "event_types": list(types or EVENT_TYPES)}
    made = await post(http, "/webhook_endpoints", body)
    receiver.secrets.append(made["signing_secret"])
    return made
