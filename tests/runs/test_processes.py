"""The API in one process and the worker in another, on one database."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from tests.runs.driver import CODE, Api, names, parsed_all, streamed_parts
from tests.runs.workers import opened, started
from tests.support.postgres import Postgres, sqlalchemy_url
from tests.support.server import Running, running_server
from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.signal import Signal
from threadloom.events import Feed
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels, SequentialIds
from threadloom.worker import Worker


class Deaf(Signal):
    """Hears nothing: every notification is lost."""

    def notify(self, channels: object) -> None:
        del channels


def worker_in(database: Database, model: ScriptedModel, tool: EchoTool) -> Worker:
    return Worker(database, Feed(database), ScriptedModels(model), Runs(), {tool.name: tool})


@dataclass
class Pair:
    """A process for each: the API answers, and the worker has a database and a tool of its own."""

    api: Running
    database: Database
    worker: Worker
    tool: EchoTool
    http: httpx2.AsyncClient


@asynccontextmanager
async def two_processes(url: str, model: ScriptedModel) -> AsyncGenerator[Pair]:
    clock, ids, tool = FrozenClock(), SequentialIds(), EchoTool()
    async with (
        running_server(url, ScriptedModels(model), clock=clock, ids=ids, with_worker=False) as api,
        opened(url, clock, ids) as database,
        api.http() as http,
    ):
        yield Pair(api, database, worker_in(database, model, tool), tool, http)


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_stream_is_written_by_another_process(
    database_url: str, model: ScriptedModel, deaf: bool
) -> None:
    paused = asyncio.Event()
    model.calls(("code_interpreter", "1"))
    model.plays("Hel", paused, "lo")
    async with two_processes(database_url, model) as both:
        if deaf:
            both.api.database.signal.__class__ = Deaf
            both.database.signal.__class__ = Deaf
        talk = await Api(both.http).talk(tools=[CODE])
        async with started(both.worker), talk.streamed() as stream:
            await stream.until("thread.message.delta")
            paused.set()
            text = await stream.rest()
    assert names(text)[-2:] == ["thread.run.completed", "done"]
    assert [call.arguments for call in both.tool.calls] == ["1"]


async def test_many_streams_are_written_by_another_process(
    database_url: str, model: ScriptedModel
) -> None:
    words = [f"word{number} " for number in range(10)]
    for _ in range(20):
        model.plays(*words)
    async with two_processes(database_url, model) as both:
        talks = [await Api(both.http).talk() for _ in range(20)]
        async with started(both.worker):
            transcripts = await asyncio.gather(*(talk.transcript() for talk in talks))
    for text in transcripts:
        said = streamed_parts(parsed_all(text))
        assert list(said.values()) == [["".join(words)]]
        assert names(text)[-2:] == ["thread.run.completed", "done"]


async def test_a_cancel_reaches_the_other_process(database_url: str, model: ScriptedModel) -> None:
    model.plays("Hel", asyncio.Event())
    async with two_processes(database_url, model) as both:
        talk = await Api(both.http).talk()
        async with started(both.worker), talk.streamed() as stream:
            run = (await stream.until("thread.run.created")).json
            await stream.until("thread.message.delta")
            await talk.cancel(run)
            await stream.until("thread.run.cancelled")


async def test_with_notifications_nobody_waits_for_the_poll(
    postgres: Postgres, model: ScriptedModel
) -> None:
    for _ in range(5):
        model.says("Hello")
    with postgres.database() as made:
        url = sqlalchemy_url(made)
        async with two_processes(url, model) as both:
            talk = await Api(both.http).talk()
            async with started(both.worker):
                await talk.transcript()
                missed = both.database.signal.missed
                for _ in range(4):
                    await talk.transcript()
            assert both.database.signal.missed == missed
