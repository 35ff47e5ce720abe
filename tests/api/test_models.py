"""Models, whose names may hold slashes."""

from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.api.wire import Json, answer, get, refusal
from tests.support.server import running_server
from threadloom.config import Settings
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models

PROVIDERS: list[Json] = [
    {
        "name": "hub",
        "base_url": "http://127.0.0.1:1/v1",
        "models": {"org/model:7b": {}, "plain": {}},
    }
]


@pytest.fixture
async def hub(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server in front of a provider with two models and an alias."""
    settings: Json = {
        "providers": PROVIDERS,
        "aliases": {"gpt-4o": "org/model:7b", "gpt-*": "plain", "lost*": "nothing"},
    }
    read = Settings.model_validate(settings)
    async with (
        build_models(read, RandomIds()) as models,
        running_server(database_url, models, settings=settings, with_worker=False) as running,
        running.http() as raw,
    ):
        yield raw


async def test_models_are_listed_with_their_aliases(hub: httpx2.AsyncClient) -> None:
    page = await get(hub, "/models")
    assert page["object"] == "list"
    assert [(one["id"], one["object"], one["owned_by"]) for one in page["data"]] == [
        ("org/model:7b", "model", "hub"),
        ("plain", "model", "hub"),
        ("gpt-4o", "model", "hub"),
    ]
    assert all(isinstance(one["created"], int) for one in page["data"])


async def test_a_name_with_a_slash_is_one_name(hub: httpx2.AsyncClient) -> None:
    for path in ("/models/org/model:7b", "/models/org%2Fmodel%3A7b"):
        assert (await get(hub, path))["id"] == "org/model:7b"


async def test_a_name_that_a_pattern_leads_to_a_model_is_a_model(hub: httpx2.AsyncClient) -> None:
    found = await get(hub, "/models/gpt-4-1106-preview")
    assert (found["id"], found["object"], found["owned_by"]) == (
        *("gpt-4-1106-preview", "model", "hub"),
    )


async def test_the_demonstration_is_every_model(database_url: str) -> None:
    async with (
        build_models(Settings(), RandomIds()) as models,
        running_server(database_url, models, with_worker=False) as running,
        running.http() as raw,
    ):
        for name in ("gpt-4o", "threadloom-embedded"):
            found = await get(raw, f"/models/{name}")
            assert (found["id"], found["owned_by"]) == (name, "threadloom")
            assert "does not reason" in found["description"]


async def test_an_unknown_model_is_not_found(hub: httpx2.AsyncClient) -> None:
    for name in ("nobody", "org/nobody", "org", "lost", "gpt5"):
        assert answer(await hub.get(f"/models/{name}")) == refusal(
            404,
            f"The model '{name}' does not exist. `GET /v1/models` lists those that do; "
            "an alias in `THREADLOOM_ALIASES` can lead from this name to one of them.",
            param="model",
            code="model_not_found",
        )


async def test_models_need_no_beta_header(hub: httpx2.AsyncClient) -> None:
    response = await hub.get("/models", headers={"OpenAI-Beta": "assistants=v1"})
    assert response.status_code == 200
