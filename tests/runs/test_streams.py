"""The order of events, to the byte. BEHAVIOURS 8 recorded it from the hosted service."""

import asyncio

from tests.runs.driver import (
    CODE,
    FUNCTION,
    Api,
    assert_transcript,
    names,
    parsed_all,
)
from threadloom.llm.chat import Finished, RefusalDelta, TextDelta, ToolCallDelta, ToolCallOpened
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel
from threadloom.testing.model import USAGE

TIME: dict[str, object] = {"type": "function", "function": {"name": "time"}}


async def test_a_run_streams_its_answer(api: Api, model: ScriptedModel) -> None:
    model.says("Hel", "lo")
    talk = await api.talk("Hi")
    assert_transcript("text", await talk.transcript())


async def test_a_thread_that_is_made_with_its_run_comes_first(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hel", "lo")
    talk = await api.talk()
    body = {
        "assistant_id": talk.assistant,
        "thread": {"messages": [{"role": "user", "content": "Hi"}]},
        "stream": True,
    }
    async with api.stream("POST", "/threads/runs", body) as stream:
        assert_transcript("thread_and_run", await stream.rest())


async def test_a_function_call_is_answered_in_a_second_stream(
    api: Api, model: ScriptedModel
) -> None:
    model.plays(
        ToolCallOpened(0, "call_1", "weather"),
        ToolCallDelta(0, '{"ci'),
        ToolCallDelta(0, 'ty":1}'),
        Finished("tool_calls", USAGE),
    )
    model.says("Su", "nny")
    talk = await api.talk(tools=[FUNCTION])
    first = await talk.transcript()
    run = await talk.rested(parsed_all(first)[0].json)
    second = await talk.submitted(run, "20 degrees")
    assert_transcript("function", first)
    assert_transcript("function_submitted", second)


async def test_parallel_calls_share_one_step(api: Api, model: ScriptedModel) -> None:
    model.calls(("weather", '{"a":1}'), ("time", ""))
    model.calls(("time", "{}"))
    talk = await api.talk(tools=[FUNCTION, TIME])
    first = await talk.transcript()
    run = await talk.rested(parsed_all(first)[0].json)
    second = await talk.submitted(run, "sunny", "noon")
    assert_transcript("parallel", first)
    assert_transcript("parallel_then_another", second)


async def test_text_beside_a_call_is_a_message_of_its_own(api: Api, model: ScriptedModel) -> None:
    model.says_then_calls(("Let me ", "look."), ("weather", "{}"))
    talk = await api.talk(tools=[FUNCTION])
    assert_transcript("text_beside_a_call", await talk.transcript())


async def test_text_after_a_call_is_not_sent(api: Api, model: ScriptedModel) -> None:
    model.plays(
        ToolCallOpened(0, "call_1", "weather"),
        "Wait for it.",
        ToolCallDelta(0, ""),
        Finished("tool_calls", USAGE),
    )
    talk = await api.talk(tools=[FUNCTION])
    assert "Wait" not in await talk.transcript()


async def test_empty_pieces_are_not_sent(api: Api, model: ScriptedModel) -> None:
    model.says("", "Hello", "")
    talk = await api.talk()
    assert names(await talk.transcript()).count("thread.message.delta") == 1


async def test_a_model_that_says_nothing_leaves_an_empty_message(
    api: Api, model: ScriptedModel
) -> None:
    model.says()
    talk = await api.talk()
    assert_transcript("empty", await talk.transcript())


async def test_a_refusal_is_a_part_of_its_own_kind(api: Api, model: ScriptedModel) -> None:
    model.plays(TextDelta("Well, "), RefusalDelta("I "), RefusalDelta("won't."))
    talk = await api.talk()
    assert_transcript("refusal", await talk.transcript())


async def test_a_built_in_tool_runs_within_the_stream(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("code_interpreter", "print(1)"))
    model.says("One")
    tool.then("1")
    talk = await api.talk(tools=[CODE])
    assert_transcript("built_in", await talk.transcript())


async def test_a_built_in_tool_that_gives_nothing_adds_nothing(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("code_interpreter", "pass"))
    model.says("Done")
    tool.then("")
    talk = await api.talk(tools=[CODE])
    deltas = [one for one in parsed_all(await talk.transcript()) if one.name.endswith("step.delta")]
    assert len(deltas) == 2
    assert all("outputs" not in one.data or '"outputs":[]' in one.data for one in deltas)


async def test_built_in_calls_run_before_the_client_is_asked_for_the_rest(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("weather", "{}"), ("code_interpreter", "1"), ("code_interpreter", "2"))
    model.says("Done")
    talk = await api.talk(tools=[CODE, FUNCTION])
    first = await talk.transcript()
    run = await talk.rested(parsed_all(first)[0].json)
    second = await talk.submitted(run, "sunny")
    assert_transcript("mixed", first)
    assert_transcript("mixed_submitted", second)
    assert [call.arguments for call in tool.calls] == ["1", "2"]


async def test_a_run_cancelled_in_its_message_keeps_what_was_said(
    api: Api, model: ScriptedModel
) -> None:
    model.plays("Hel", asyncio.Event())
    talk = await api.talk()
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.message.delta")
        await talk.cancel(run.json)
        assert_transcript("cancelled", await stream.rest())


async def test_a_run_cancelled_while_a_tool_runs_closes_the_step(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("code_interpreter", "1"))
    tool.then(asyncio.Event())
    talk = await api.talk(tools=[CODE])
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.run.step.delta")
        await talk.cancel(run.json)
        text = await stream.rest()
    assert names(text)[-4:] == [
        "thread.run.cancelling",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


async def test_a_run_that_fails_in_its_message_says_why(api: Api, model: ScriptedModel) -> None:
    model.fails("rate_limit_exceeded", "Slow down.", after=["Hel"])
    talk = await api.talk()
    assert_transcript("failed", await talk.transcript())


async def test_a_run_that_fails_at_once_has_no_step(api: Api, model: ScriptedModel) -> None:
    model.fails("invalid_prompt", "No.")
    talk = await api.talk()
    assert_transcript("failed_at_once", await talk.transcript())


async def test_an_answer_stopped_by_a_filter_is_cut_and_charged(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Once upon", reason="content_filter")
    talk = await api.talk()
    assert_transcript("content_filter", await talk.transcript())


async def test_a_run_expires_in_its_message(
    api: Api, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.plays("Hel", asyncio.Event())
    talk = await api.talk()
    async with talk.streamed() as stream:
        await stream.until("thread.message.delta")
        clock.advance(600)
        text = await stream.rest()
    assert names(text)[-4:] == [
        "thread.message.incomplete",
        "thread.run.step.expired",
        "thread.run.expired",
        "done",
    ]


async def test_a_run_expires_while_its_client_is_asked(
    api: Api, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.calls(("weather", "{}"))
    talk = await api.talk(tools=[FUNCTION])
    first = parsed_all(await talk.transcript())
    clock.advance(600)
    run = await talk.until(first[0].json, "expired")
    assert_transcript("expired", await talk.events(run, first[-2].id))


async def test_an_answer_longer_than_its_budget_is_cut(api: Api, model: ScriptedModel) -> None:
    model.says("Hel", "lo", reason="length")
    talk = await api.talk()
    assert_transcript("incomplete", await talk.transcript(max_completion_tokens=16))


async def test_calls_longer_than_their_budget_end_the_run(api: Api, model: ScriptedModel) -> None:
    model.plays(
        ToolCallOpened(0, "call_1", "weather"), ToolCallDelta(0, '{"a'), Finished("length", USAGE)
    )
    talk = await api.talk(tools=[FUNCTION])
    assert_transcript("incomplete_call", await talk.transcript())


async def test_a_prompt_over_its_budget_is_not_sent(api: Api, model: ScriptedModel) -> None:
    talk = await api.talk("word " * 300)
    assert_transcript("max_prompt_tokens", await talk.transcript(max_prompt_tokens=256))
    assert not model.requests
