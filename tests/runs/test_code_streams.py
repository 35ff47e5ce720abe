"""How a stream shows code while it is written, what it gave, and the message that follows."""

import asyncio

import pytest

from tests.runs.driver import (
    CODE,
    FUNCTION,
    Api,
    Json,
    assert_transcript,
    names,
    parsed_all,
    parts_of,
    streamed_parts,
)
from threadloom.llm.chat import (
    AssistantMessage,
    Finished,
    RefusalDelta,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
)
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedSearch, passage
from threadloom.testing.model import USAGE, Step

LOGS: Json = {"type": "logs", "logs": "42"}
SEARCH: Json = {"type": "file_search"}
CALL = ("code_interpreter", '{"code": "plot()"}')


def picture(file_id: str) -> Json:
    return {"type": "image", "image": {"file_id": file_id}}


def draws(model: ScriptedModel, tool: EchoTool, *file_ids: str) -> None:
    model.calls(CALL)
    tool.then([picture(file_id) for file_id in file_ids])


def opened(index: int, name: str = "code_interpreter") -> ToolCallOpened:
    return ToolCallOpened(index, f"call_{index}", name)


def step_deltas(text: str) -> list[Json]:
    """The pieces of tool calls in a stream."""
    return [
        call
        for event in parsed_all(text)
        if event.name == "thread.run.step.delta"
        for call in event.json["delta"]["step_details"]["tool_calls"]
    ]


def inputs_of(deltas: list[Json]) -> dict[int, str]:
    """What the pieces of code add up to, by the call's index."""
    inputs: dict[int, str] = {}
    for delta in deltas:
        if "code_interpreter" in delta:
            piece = delta["code_interpreter"].get("input", "")
            inputs[delta["index"]] = inputs.get(delta["index"], "") + piece
    return inputs


def answers_of(messages: list[Json]) -> list[list[str]]:
    return [parts_of(message) for message in messages if message["role"] == "assistant"]


# Calls


async def test_code_is_streamed_as_it_is_written(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    pieces = ['{"co', 'de": "x', ' = \\"', "\\ud83d", '\\ude00\\"', "\\npri", 'nt(x)"', "}"]
    model.plays(
        opened(0), *(ToolCallDelta(0, piece) for piece in pieces), Finished("tool_calls", USAGE)
    )
    tool.then([LOGS, picture("file-1"), picture("file-2")])
    model.says("See", " there.")
    talk = await api.talk(tools=[CODE])
    assert_transcript("code", await talk.transcript())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("print(1)", "print(1)"),
        ('{"script": "print(1)"}', "print(1)"),
        ("```python\nprint(1)\n```\nDone.", "print(1)"),
        ('{"code": "print("a")"} ', 'print("a")'),
        ('{"code": "print(', "print("),
        ('{"code": "\\u0000\\ud800"}', "\0\N{REPLACEMENT CHARACTER}"),
        ("", ""),
    ],
)
async def test_the_step_has_the_code_that_was_streamed(
    api: Api, model: ScriptedModel, tool: EchoTool, arguments: str, code: str
) -> None:
    model.plays(
        opened(0),
        *(ToolCallDelta(0, letter) for letter in arguments),
        Finished("tool_calls", USAGE),
    )
    model.says("So.")
    tool.then("ok")
    talk = await api.talk(tools=[CODE])
    text = await talk.transcript()
    assert inputs_of(step_deltas(text)) == {0: code}
    (call,) = (await talk.steps(parsed_all(text)[0].json))[0]["step_details"]["tool_calls"]
    assert call["code_interpreter"] == {"input": code, "outputs": [{"type": "logs", "logs": "ok"}]}
    assert [one.arguments for one in tool.calls] == [arguments]


async def test_calls_of_all_kinds_are_streamed_side_by_side(
    api: Api, model: ScriptedModel, tool: EchoTool, search: ScriptedSearch
) -> None:
    model.plays(
        opened(0, "file_search"),
        ToolCallDelta(0, '{"queries": ["a"]}'),
        opened(1),
        ToolCallDelta(1, '{"code": "one'),
        opened(2, "weather"),
        ToolCallDelta(2, "{}"),
        opened(3),
        ToolCallDelta(3, "two"),
        ToolCallDelta(1, '()"'),
        opened(4, "file_search"),
        ToolCallDelta(3, "()\n"),
        ToolCallDelta(4, "b"),
        ToolCallDelta(1, "}"),
        Finished("tool_calls", USAGE),
    )
    search.finds(passage("A."))
    talk = await api.talk(tools=[CODE, SEARCH, FUNCTION])
    text = await talk.transcript()
    deltas = step_deltas(text)
    assert [(one["index"], one["type"]) for one in deltas if "id" in one] == [
        (0, "file_search"),
        (1, "code_interpreter"),
        (2, "function"),
        (3, "code_interpreter"),
        (4, "file_search"),
    ]
    assert inputs_of(deltas) == {1: "one()", 3: "two()\n"}
    run = await talk.rested(parsed_all(text)[0].json)
    assert run["status"] == "requires_action"
    (step,) = await talk.steps(run)
    codes = [call.get("code_interpreter") for call in step["step_details"]["tool_calls"]]
    assert [one and one["input"] for one in codes] == [None, "one()", None, "two()\n", None]


async def test_the_model_is_told_of_its_code_as_json(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    draws(model, tool, "file-1")
    model.says_then_calls(["Again."], ("code_interpreter", "print(2)"))
    tool.then("2")
    model.calls(("code_interpreter", '{"source": "print(3)"}'))
    model.says("Done.")
    model.says("It was drawn.")
    talk = await api.talk(tools=[CODE])
    await talk.ask()
    await talk.ask()
    calls = [
        call.arguments
        for message in model.requests[3].messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    ]
    assert calls == [CALL[1], '{"code":"print(2)"}', '{"source": "print(3)"}']
    told = [one.text for one in model.requests[3].messages if isinstance(one, ToolMessage)]
    assert told == ["", "2", "print(3)"]
    texts = [one.text for one in model.requests[3].messages if isinstance(one, AssistantMessage)]
    assert texts == ["", "Again.", ""]
    later = [one.text for one in model.requests[4].messages if isinstance(one, AssistantMessage)]
    assert later == ["Again.", "Done."]


# Pictures


async def test_pictures_of_all_calls_come_first_in_the_next_message(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    draws(model, tool, "file-1", "file-2")
    draws(model, tool, "file-3")
    model.says("All", " three.")
    talk = await api.talk(tools=[CODE])
    text = await talk.transcript()
    parts = ["file-1", "file-2", "file-3", "All three."]
    assert [*streamed_parts(parsed_all(text)).values()] == [parts]
    assert answers_of(await talk.messages()) == [parts]
    deltas = [
        one.json["delta"]["content"] for one in parsed_all(text) if "message.delta" in one.name
    ]
    assert deltas[0] == [{"index": 0, "type": "image_file", "image_file": {"file_id": "file-1"}}]
    assert [part["index"] for (part,) in deltas] == [0, 1, 2, 3, 3]


async def test_a_picture_is_shown_in_one_message(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    draws(model, tool, "file-1")
    model.says_then_calls(["The first."], CALL)
    tool.then([picture("file-2")])
    model.calls(CALL)
    tool.then("no picture")
    model.says("The second.")
    draws(model, tool)
    model.says("None.")
    talk = await api.talk(tools=[CODE])
    await talk.ask()
    await talk.ask()
    assert answers_of(await talk.messages()) == [
        ["file-1", "The first."],
        ["file-2", "The second."],
        ["None."],
    ]


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ((), []),
        ((RefusalDelta("I won't."),), ["I won't."]),
        (("Well, ", RefusalDelta("no.")), ["Well, ", "no."]),
        ((Finished("length", USAGE),), []),
    ],
)
async def test_pictures_are_shown_whatever_the_answer_is(
    api: Api, model: ScriptedModel, tool: EchoTool, said: tuple[Step, ...], parts: list[str]
) -> None:
    draws(model, tool, "file-1", "file-2")
    model.plays(*said)
    talk = await api.talk(tools=[CODE])
    text = await talk.transcript()
    assert [*streamed_parts(parsed_all(text)).values()] == [["file-1", "file-2", *parts]]
    assert answers_of(await talk.messages()) == [["file-1", "file-2", *parts]]


async def test_pictures_wait_for_a_message_while_the_client_is_asked(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(CALL, ("weather", "{}"))
    tool.then([picture("file-1")])
    model.says("Sunny.")
    talk = await api.talk(tools=[CODE, FUNCTION])
    run = await talk.ask()
    assert answers_of(await talk.messages()) == []
    await talk.submit(run, "sunny")
    await talk.rested(run)
    assert answers_of(await talk.messages()) == [["file-1", "Sunny."]]


async def test_a_picture_is_not_shown_again_when_its_message_is_deleted(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    draws(model, tool, "file-1")
    model.says_then_calls(["See."], ("weather", "{}"))
    model.says("Sunny.")
    talk = await api.talk(tools=[CODE, FUNCTION])
    run = await talk.ask()
    await api.delete(f"{talk.path}/messages/{(await talk.messages())[-1]['id']}")
    await talk.submit(run, "sunny")
    await talk.rested(run)
    assert answers_of(await talk.messages()) == [["Sunny."]]


async def test_a_message_that_is_cut_keeps_its_pictures(
    api: Api, model: ScriptedModel, tool: EchoTool, clock: FrozenClock
) -> None:
    draws(model, tool, "file-1")
    model.plays("As you", asyncio.Event())
    draws(model, tool, "file-2")
    model.plays("As you", asyncio.Event())
    talk = await api.talk(tools=[CODE])
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.message.delta", 2)
        await talk.cancel(run.json)
        await stream.rest()
    async with talk.streamed() as stream:
        await stream.until("thread.message.delta", 2)
        clock.advance(600)
        assert names(await stream.rest())[-2] == "thread.run.expired"
    messages = (await talk.messages())[1:]
    assert [message["status"] for message in messages] == ["incomplete"] * 2
    assert answers_of(messages) == [["file-1", "As you"], ["file-2", "As you"]]
