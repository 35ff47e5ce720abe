"""What keeps a silent stream open."""

import asyncio

import pytest
from openai import AsyncOpenAI

from tests.support.server import Running
from threadloom.api import streams
from threadloom.testing import ScriptedModel


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_EVERY", 0.02)


async def think(model: ScriptedModel, thinking: asyncio.Event) -> None:
    """For several pings once the model was asked."""
    while not model.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    thinking.set()


async def test_a_stream_may_be_silent_for_long(client: AsyncOpenAI, model: ScriptedModel) -> None:
    thinking = asyncio.Event()
    model.plays("One", thinking, " two")
    assistant = await client.beta.assistants.create(model="gpt-4o")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Count."}])
    pause = asyncio.create_task(think(model, thinking))
    async with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id
    ) as stream:
        text = "".join([piece async for piece in stream.text_deltas])
    assert text == "One two"
    await pause


async def test_its_pings_stand_between_events(server: Running, model: ScriptedModel) -> None:
    thinking = asyncio.Event()
    model.plays("One", thinking, " two")
    pause = asyncio.create_task(think(model, thinking))
    async with server.http() as http:
        assistant = (await http.post("/assistants", json={"model": "gpt-4o"})).json()
        body = {
            "assistant_id": assistant["id"],
            "thread": {"messages": [{"role": "user", "content": "Count."}]},
            "stream": True,
        }
        sent = (await http.post("/threads/runs", json=body)).text
    await pause
    *blocks, rest = sent.split("\n\n")
    assert ": ping\n" in sent
    assert not rest.replace(": ping\n", "")  # one may come after the last event
    for block in blocks:
        lines = [line for line in block.splitlines() if line != ": ping"]
        assert [line.partition(":")[0] for line in lines[:2]] == ["event", "data"]
