from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from threadloom.backoff import Backoff
from threadloom.config import ModelCalls
from threadloom.llm.chat_completions import ChatCompletions, Endpoint
from threadloom.testing import SequentialIds
from threadloom.testing.upstream import Upstream

QUICK = Backoff(first=0.001, longest=0.01, longest_asked=0.05)

Remote = Callable[..., ChatCompletions]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def remote(upstream: Upstream, http: httpx2.AsyncClient) -> Remote:
    """Makes a client of the upstream; settings of the calls may be overridden."""

    def make(**overrides: object) -> ChatCompletions:
        calls = ModelCalls.model_validate({"connect_timeout": 2} | overrides)
        endpoint = Endpoint("scripted", upstream.base_url, "sk-secret")
        return ChatCompletions(http, endpoint, calls=calls, ids=SequentialIds(), backoff=QUICK)

    return make
