"""Streams that break off, and what a client reads when it comes back."""

import asyncio

from tests.runs.driver import CODE, FUNCTION, Api, Stream, Talk, names, parsed_all
from tests.support.server import Running, running_server
from threadloom.events import MAX_BACKLOG
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels, SequentialIds


def suffixes(text: str) -> dict[str, str]:
    """What follows each event of a stream, by the event's id."""
    return {
        event.id: text.partition(f"\nid: {event.id}\n\n")[2]
        for event in parsed_all(text)
        if event.id
    }


async def read_on(talk: Talk, run: str, after: str) -> str:
    """As a browser's EventSource comes back."""
    path = f"{talk.run_path(run)}/events"
    async with talk.api.stream("GET", path, headers={"Last-Event-ID": after}) as stream:
        return await stream.rest()


async def test_an_ended_stream_can_be_read_again_from_every_event(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.says_then_calls(("Let me ", "see."), ("code_interpreter", "1"))
    model.says("Hel", "lo")
    talk = await api.talk(tools=[CODE])
    whole = await talk.transcript()
    run = parsed_all(whole)[0].json["id"]
    assert await talk.events(run) == whole
    for after, suffix in suffixes(whole).items():
        assert await talk.events(run, after) == suffix
        assert await read_on(talk, run, after) == suffix


async def test_a_stream_that_waits_for_its_client_can_be_read_again_from_every_event(
    api: Api, model: ScriptedModel
) -> None:
    model.calls(("weather", "{}"))
    talk = await api.talk(tools=[FUNCTION])
    whole = await talk.transcript()
    run = parsed_all(whole)[0].json["id"]
    for after, suffix in suffixes(whole).items():
        assert await talk.events(run, after) == suffix


async def test_the_answer_to_a_call_follows_the_event_that_asked_for_it(
    api: Api, model: ScriptedModel
) -> None:
    model.calls(("weather", "{}"))
    model.says("Sunny")
    talk = await api.talk(tools=[FUNCTION])
    first = await talk.transcript()
    run = await talk.rested(parsed_all(first)[0].json)
    second = await talk.submitted(run, "sunny")
    asked = parsed_all(first)[-2]
    assert asked.name == "thread.run.requires_action"
    assert await talk.events(run, asked.id) == second


async def test_a_running_stream_can_be_taken_up_from_every_event(
    api: Api, model: ScriptedModel
) -> None:
    paused = asyncio.Event()
    model.plays("Hel", "lo", paused, " there", "!")
    talk = await api.talk()
    async with talk.streamed() as stream:
        run = (await stream.until("thread.run.created")).json["id"]
        await stream.until("thread.message.delta", 2)
        seen = [event.id for event in stream.events if event.id]
        async with asyncio.TaskGroup() as tasks:
            resumed = {after: tasks.create_task(talk.events(run, after)) for after in seen}
            other = tasks.create_task(talk.events(run))
            paused.set()
            whole = await stream.rest()
    expected = suffixes(whole)
    assert other.result() == whole
    assert {after: task.result() for after, task in resumed.items()} == {
        after: expected[after] for after in seen
    }


async def test_a_reader_that_falls_behind_misses_nothing(
    api: Api, model: ScriptedModel, server: Running
) -> None:
    paused = asyncio.Event()
    pieces = [f"{number} " for number in range(MAX_BACKLOG + 200)]
    model.plays(*pieces, paused, "end")
    talk = await api.talk()
    run = await talk.run()
    slow = server.context.feed.follow(run["id"])
    read = await anext(slow)
    async with talk.followed(run) as stream:
        await stream.until("thread.message.delta", len(pieces))
    while len(read) <= MAX_BACKLOG:
        read += await anext(slow)
    paused.set()
    read += [event async for events in slow for event in events]
    assert [event.name for event in read] == names(await talk.events(run))[:-1]
    assert [event.seq for event in read[2:]] == list(range(1, len(read) - 1))


async def test_a_client_that_goes_away_does_not_stop_its_run(
    api: Api, model: ScriptedModel
) -> None:
    paused = asyncio.Event()
    model.plays("Hel", paused, "lo")
    talk = await api.talk()
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.message.delta")
    paused.set()
    assert (await talk.rested(run.json))["status"] == "completed"
    assert await talk.said() == ["Hi", "Hello"]


async def test_a_stream_ends_with_an_error_when_its_thread_is_deleted(
    api: Api, model: ScriptedModel
) -> None:
    model.plays("Hel", asyncio.Event())
    talk = await api.talk()
    async with talk.streamed() as stream:
        await stream.until("thread.message.delta")
        await api.delete(talk.path)
        text = await stream.rest()
    last = parsed_all(text)[-1]
    assert last.name == "error"
    assert last.json["error"]["message"] == "The run was deleted."


async def test_shutdown_ends_streams_with_an_error_and_hands_runs_back(
    database_url: str, model: ScriptedModel
) -> None:
    clock, ids, models = FrozenClock(), SequentialIds(), ScriptedModels(model)
    model.plays("Hel", asyncio.Event())
    model.says("Hello")
    async with (
        running_server(database_url, models, clock=clock, ids=ids) as first,
        first.http() as http,
    ):
        talk = await Api(http).talk()
        async with talk.streamed() as stream:
            run = (await stream.until("thread.run.created")).json["id"]
            await stream.until("thread.message.delta")
            assert await ends_with_an_error_at_shutdown(first, stream)
    async with (
        running_server(database_url, models, clock=clock, ids=ids) as second,
        second.http(first.key) as http,
    ):
        talk = Talk(Api(http), talk.thread, talk.assistant)
        assert (await talk.rested(run))["status"] == "completed"
        assert await talk.said() == ["Hi", "Hello"]


async def ends_with_an_error_at_shutdown(server: Running, stream: Stream) -> bool:
    server.context.feed.close()
    server.background.drain()
    last = parsed_all(await stream.rest())[-1]
    return last.name == "error" and "shutting down" in last.json["error"]["message"]
