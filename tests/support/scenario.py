"""A server with all its own parts, a provider that obeys, sandboxes that are puppets, and clients that use everything."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.api.wire import make_file
from tests.runs.driver import CODE, Api, Json, Stream
from tests.sandbox.puppets import PuppetLauncher
from tests.support.server import Running, running_server
from threadloom.config import CodeInterpreter, Settings
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models
from threadloom.sandbox.sessions import Sessions
from threadloom.testing.upstream import Upstream

QUESTION = "Where do the heliotropes of Zanzibar sleep"
PASSAGE = "The heliotropes sleep in the amber vault below the lighthouse."
CODE_TEXT = "print('obsidian_marker_7')"
SAID_BY_CODE = "abc"  # what puppets print
ARGUMENTS = "Quetzaltenango"
OUTPUT = "drizzle_of_marzipan"
PROVIDER_KEY = "sk-of-the-provider"
SECRETS = (QUESTION, PASSAGE, CODE_TEXT, ARGUMENTS, OUTPUT, "cobalt", PROVIDER_KEY)
"""What is said here and no operator may see."""
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALLS = (
    f'[[tool:file_search {{"query":"{QUESTION}"}}]]'
    f'[[tool:code_interpreter {{"code":"{CODE_TEXT}"}}]]'
    f'[[tool:get_weather {{"city":"{ARGUMENTS}"}}]]'
)


@asynccontextmanager
async def whole_server(
    url: str, settings: Mapping[str, Any] | None = None
) -> AsyncGenerator[Running]:
    """A server whose every part is the real one, up to the provider and the sandboxes."""
    limits = CodeInterpreter(pool=0)
    async with Upstream(tokens=3) as upstream:
        provider = {
            "upstream": {"base_url": upstream.base_url, "api_key": PROVIDER_KEY},
            "aliases": {"gpt-4o": "scripted"},
        }
        async with (
            build_models(Settings.model_validate(provider), RandomIds()) as models,
            running_server(
                url, models, settings=settings, sandbox=Sessions(limits, PuppetLauncher(limits))
            ) as running,
        ):
            yield running


async def use_everything(http: httpx2.AsyncClient) -> str:
    """All three tools in one run, which is streamed and completes; gives its id."""
    api = Api(http)
    file_id = (await make_file(http, PASSAGE.encode(), "vault.txt"))["id"]
    store = await ingested(api, file_id)
    talk = await api.talk(
        f"{QUESTION}? {CALLS}",
        tools=[CODE, {"type": "file_search"}, WEATHER],
        tool_resources={"file_search": {"vector_store_ids": [store["id"]]}},
        instructions="Never speak of cobalt.",
    )
    body = {"assistant_id": talk.assistant, "stream": True}
    async with api.stream("POST", f"{talk.path}/runs", body) as stream:
        waiting = await stream.until("thread.run.requires_action")
        await stream.rest()
    run: Json = waiting.json
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": OUTPUT} for call in calls]
    path = f"{talk.path}/runs/{run['id']}/submit_tool_outputs"
    async with api.stream("POST", path, {"tool_outputs": outputs, "stream": True}) as stream:
        await ended_as(stream, "completed")
    return run["id"]


async def fail(http: httpx2.AsyncClient, directive: str, model: str = "gpt-4o") -> Json:
    """A run whose provider does what the directive says; gives what became of it."""
    api = Api(http)
    talk = await api.talk(f"{QUESTION}? {directive}", model=model)
    body = {"assistant_id": talk.assistant, "stream": True}
    async with api.stream("POST", f"{talk.path}/runs", body) as stream:
        await stream.rest()
        return stream.events[-2].json


async def ended_as(stream: Stream, status: str) -> None:
    await stream.rest()
    names = [event.name for event in stream.events]
    assert f"thread.run.{status}" in names, names


async def ingested(api: Api, file_id: str) -> Json:
    """A vector store that is done with a file, for better or worse."""
    store = await api.post("/vector_stores", {"file_ids": [file_id]})
    while store["file_counts"]["in_progress"]:
        await asyncio.sleep(0.05)
        store = await api.get(f"/vector_stores/{store['id']}")
    return store
