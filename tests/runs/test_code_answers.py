"""What an answer says of the files that code has written."""

import asyncio

import pytest

from tests.runs.driver import Api, Json, Talk, parsed_all
from tests.runs.sandboxes import JPEG, PNG, cell, coding, links_of, run_cell, upload
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox.session import Picture
from threadloom.testing import FakeSandbox, FrozenClock, ScriptedModel
from threadloom.testing.sandbox import Writes

OUT = "[out](sandbox:/mnt/data/out.csv)"
TABLE = "[table](sandbox:/mnt/data/sales.csv)"


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


def attached(*file_ids: str) -> list[Json]:
    return [{"file_id": one, "tools": [{"type": "code_interpreter"}]} for one in file_ids]


async def resources(talk: Talk) -> Json:
    return (await talk.api.get(talk.path))["tool_resources"]


async def test_files_that_an_answer_links_are_attached_to_it(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    table = await upload(api)
    talk = await coding(api, table)
    before = await resources(talk)
    sandbox.then(Writes("out.csv", b"1"), Picture("image/png", PNG), Picture("image/jpeg", JPEG))
    model.calls(cell())
    model.says(f"{OUT}, {TABLE}, and {OUT} again.")
    events = parsed_all(await talk.transcript())
    message = (await talk.messages())[-1]
    out = message["content"][-1]["text"]["annotations"][0]["file_path"]["file_id"]
    assert message["attachments"] == attached(out, table)
    (sent,) = [one.json for one in events if one.name == "thread.message.completed"]
    assert sent == message
    (created,) = [one.json for one in events if one.name == "thread.message.created"]
    assert created["attachments"] == []
    assert await resources(talk) == before


async def test_an_answer_that_links_nothing_has_no_attachments(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"), Picture("image/png", PNG))
    await run_cell(talk, model, "Drawn; see sandbox:/mnt/data/other.csv.")
    assert (await talk.messages())[-1]["attachments"] == []


async def test_files_of_an_answer_that_is_cut_are_attached_to_it(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, clock: FrozenClock
) -> None:
    talk = await coding(api)
    for _ in range(2):
        sandbox.then(Writes("out.csv", b"1"))
        model.calls(cell())
        model.plays(f"Here: {OUT} and", asyncio.Event())
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.message.delta", 3)
        await talk.cancel(run.json)
        await stream.rest()
    async with talk.streamed() as stream:
        await stream.until("thread.message.delta", 3)
        clock.advance(600)
        await stream.rest()
    messages = await talk.messages()
    assert [one["status"] for one in messages[1:]] == ["incomplete"] * 2
    for message in messages[1:]:
        ((_, file_id),) = links_of(message)
        assert message["attachments"] == attached(file_id)
