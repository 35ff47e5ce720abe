"""Fixtures: a server whose clock and ids are those of the test, and which has built-in tools."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
import pytest

from tests.runs.driver import Api
from tests.support.server import Running, running_server
from threadloom.runs.tools import BuiltInTools
from threadloom.testing import (
    EchoTool,
    FakeSandbox,
    FrozenClock,
    ScriptedModel,
    ScriptedModels,
    ScriptedSearch,
    SequentialIds,
)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def tool() -> EchoTool:
    return EchoTool()


@pytest.fixture
def search() -> ScriptedSearch:
    return ScriptedSearch()


@pytest.fixture
def sandbox() -> FakeSandbox:
    return FakeSandbox()


@pytest.fixture
def built_in(tool: EchoTool) -> BuiltInTools:
    """Tools in the place of the server's own, for a test module to override."""
    return {tool.name: tool}


@pytest.fixture
def settings() -> Mapping[str, Any]:
    """The server's settings, for a test module or a test to override."""
    return {}


@pytest.fixture
def models(model: ScriptedModel) -> ScriptedModels:
    return ScriptedModels(model, unknown=["no-such-model"])


@pytest.fixture
async def server(
    database_url: str,
    models: ScriptedModels,
    clock: FrozenClock,
    built_in: BuiltInTools,
    search: ScriptedSearch,
    sandbox: FakeSandbox,
    settings: Mapping[str, Any],
) -> AsyncGenerator[Running]:
    async with running_server(
        database_url,
        models,
        settings=settings,
        built_in=built_in,
        search=search,
        sandbox=sandbox,
        clock=clock,
        ids=SequentialIds(),
    ) as running:
        yield running


@pytest.fixture
def api(http: httpx2.AsyncClient) -> Api:
    return Api(http)
