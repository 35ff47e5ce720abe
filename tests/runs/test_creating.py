"""What a run takes from its assistant, from its request and from its thread, and what the model is shown."""

import pytest

from tests.runs.driver import CODE, FUNCTION, Api, Json
from tests.runs.workers import doomed, started
from tests.support.server import running_server
from threadloom.llm.chat import (
    AssistantMessage,
    Function,
    ImagePart,
    NamedTool,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from threadloom.testing import ScriptedModel, ScriptedModels

SCHEMA: Json = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"type": "object"}},
}


def user(*texts: str) -> UserMessage:
    return UserMessage(tuple(TextPart(text) for text in texts))


async def test_a_run_keeps_the_settings_its_assistant_had(api: Api, model: ScriptedModel) -> None:
    model.calls(("weather", "{}"))
    model.says("Sunny")
    talk = await api.talk(
        instructions="Be brief.", tools=[FUNCTION], temperature=0, top_p=0.5, model="gpt-4o"
    )
    run = await talk.ask()
    changed: Json = {"instructions": "Be long.", "tools": [], "temperature": 1, "model": "other"}
    await api.post(f"/assistants/{talk.assistant}", changed)
    await talk.submit(run, "sunny")
    run = await talk.rested(run)
    assert run["instructions"] == "Be brief."
    first, second = model.requests
    assert second.messages[0] == SystemMessage("Be brief.")
    assert (second.model, second.temperature, second.top_p) == ("gpt-4o", 0, 0.5)
    assert second.tools == first.tools


async def test_a_run_overrides_its_assistant(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk(instructions="Be brief.", tools=[FUNCTION], temperature=1)
    run = await talk.ask(
        model="other",
        instructions="Be long.",
        tools=[],
        temperature=0,
        top_p=0,
        response_format=SCHEMA,
        reasoning_effort="low",
        max_completion_tokens=100,
        parallel_tool_calls=False,
        metadata={"a": "1"},
    )
    assert (run["model"], run["tools"], run["temperature"]) == ("other", [], 0)
    assert (run["metadata"], run["response_format"]["type"]) == ({"a": "1"}, "json_schema")
    (request,) = model.requests
    assert request.messages[0] == SystemMessage("Be long.")
    assert (request.model, request.temperature, request.top_p) == ("other", 0, 0)
    assert (request.tools, request.parallel_tool_calls) == ((), False)
    assert (request.max_completion_tokens, request.reasoning_effort) == (100, "low")
    assert request.response_format is not None


async def test_additional_instructions_follow_the_others(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk(instructions="Be brief.")
    run = await talk.ask(additional_instructions="Be kind.")
    assert run["instructions"] == "Be brief."
    assert model.requests[0].messages[0] == SystemMessage("Be brief.\n\nBe kind.")


async def test_without_instructions_there_is_no_system_message(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hello")
    talk = await api.talk("Hi")
    await talk.ask()
    assert model.requests[0].messages == (user("Hi"),)


async def test_additional_messages_join_the_thread_before_the_run(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hello")
    talk = await api.talk("Hi")
    added: list[Json] = [
        {"role": "assistant", "content": "Yes?"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "?"}],
        },
    ]
    await talk.ask(additional_messages=added)
    assert await talk.said() == ["Hi", "Yes?", "Who?", "Hello"]
    assert model.requests[0].messages == (user("Hi"), AssistantMessage("Yes?"), user("Who", "?"))


async def test_a_thread_is_made_with_its_run(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk()
    body: Json = {
        "assistant_id": talk.assistant,
        "instructions": "Be brief.",
        "tool_resources": {"code_interpreter": {"file_ids": []}},
    }
    run = await api.post("/threads/runs", body)
    assert run["tool_resources"] == {"code_interpreter": {"file_ids": []}}
    assert run["thread_id"] != talk.thread


async def test_a_run_needs_something_to_say(api: Api) -> None:
    talk = await api.talk()
    empty = await api.post("/threads")
    sentence = await api.refused(f"/threads/{empty['id']}/runs", {"assistant_id": talk.assistant})
    assert sentence == (
        "Run creation requires a Thread with a user message or an assistant with instructions."
    )


async def test_pictures_are_shown_to_the_model(api: Api, model: ScriptedModel) -> None:
    model.says("A cat")
    talk = await api.talk("Hi")
    picture: Json = {"url": "https://example.com/cat.png", "detail": "low"}
    content: list[Json] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": picture},
        {"type": "image_file", "image_file": {"file_id": "file-1"}},
    ]
    await talk.ask(additional_messages=[{"role": "user", "content": content}])
    assert model.requests[0].messages[-1] == UserMessage(
        (
            TextPart("What is this?"),
            ImagePart("https://example.com/cat.png", "low"),
            TextPart("[The picture file-1 is not shown: it is not there.]"),
        )
    )


async def test_a_refusal_is_remembered(api: Api, model: ScriptedModel) -> None:
    model.refuses("I won't.")
    model.says("Still no.")
    talk = await api.talk("Hi")
    await talk.ask()
    await talk.ask(additional_messages=[{"role": "user", "content": "Please"}])
    assert model.requests[1].messages == (user("Hi"), AssistantMessage("I won't."), user("Please"))


async def test_the_model_sees_its_own_calls_and_what_they_gave(
    api: Api, model: ScriptedModel
) -> None:
    model.says_then_calls(["Let me see."], ("code_interpreter", "1"), ("weather", "{}"))
    model.calls(("weather", "[]"))
    model.says("Sunny")
    talk = await api.talk("Hi", tools=[FUNCTION, CODE])
    run = await talk.ask()
    await talk.submit(run, "sunny")
    run = await talk.rested(run)
    await talk.submit(run, "")
    await talk.rested(run)
    code, first, second = (f"call_{number:024d}" for number in (1, 2, 3))
    assert model.requests[-1].messages == (
        user("Hi"),
        AssistantMessage(
            "Let me see.",
            (
                ToolCall(code, "code_interpreter", '{"code":"1"}'),
                ToolCall(first, "weather", "{}"),
            ),
        ),
        ToolMessage(code, "1"),
        ToolMessage(first, "sunny"),
        AssistantMessage("", (ToolCall(second, "weather", "[]"),)),
        ToolMessage(second, ""),
    )


async def test_calls_of_earlier_runs_are_not_repeated_to_the_model(
    api: Api, model: ScriptedModel
) -> None:
    model.calls(("code_interpreter", "1"))
    model.says("One")
    model.says("Two")
    talk = await api.talk("Hi", tools=[CODE])
    await talk.ask()
    await talk.ask(additional_messages=[{"role": "user", "content": "And?"}])
    assert model.requests[-1].messages == (user("Hi"), AssistantMessage("One"), user("And?"))


async def test_only_tools_that_this_server_has_are_offered(
    database_url: str, models: ScriptedModels, model: ScriptedModel
) -> None:
    model.says("Hello")
    model.says("Hello")
    async with (
        running_server(database_url, models, with_worker=False) as running,
        running.http() as http,
    ):
        talk = await Api(http).talk(tools=[FUNCTION, {"type": "file_search"}, CODE])
        async with doomed(running.database, models, {}, feed=running.context.feed):
            await talk.ask()
        async with started(running.background):
            await talk.ask()
    offered = [[function.name for function in request.tools] for request in model.requests]
    assert offered == [["weather"], ["weather", "file_search", "code_interpreter"]]


async def test_a_function_is_offered_as_it_was_described(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    described: Json = {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    }
    talk = await api.talk(tools=[{"type": "function", "function": described}])
    await talk.ask()
    assert model.requests[0].tools == (Function(**described),)


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
async def test_the_model_is_told_how_to_choose(api: Api, model: ScriptedModel, choice: str) -> None:
    model.says("Hello")
    talk = await api.talk(tools=[FUNCTION])
    run = await talk.ask(tool_choice=choice)
    assert run["tool_choice"] == choice
    assert model.requests[0].tool_choice == choice


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "function", "function": {"name": "weather"}}, "weather"),
        (CODE, "code_interpreter"),
    ],
)
async def test_the_model_is_told_which_tool_to_call_first(
    api: Api, model: ScriptedModel, choice: Json, name: str
) -> None:
    model.calls(("code_interpreter", "1"))
    model.says("One")
    talk = await api.talk(tools=[FUNCTION, CODE])
    run = await talk.ask(tool_choice=choice)
    assert run["tool_choice"] == choice
    assert [request.tool_choice for request in model.requests] == [NamedTool(name), "auto"]


async def test_a_model_that_may_not_call_may_not_later_either(
    api: Api, model: ScriptedModel
) -> None:
    model.calls(("code_interpreter", "1"))
    model.says("One")
    talk = await api.talk(tools=[CODE])
    await talk.ask(tool_choice="none")
    assert [request.tool_choice for request in model.requests] == ["none", "none"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [(CODE, "code_interpreter"), ({"type": "function", "function": {"name": "none"}}, "none")],
)
async def test_a_chosen_tool_that_is_missing_is_refused(api: Api, choice: Json, name: str) -> None:
    talk = await api.talk(tools=[FUNCTION])
    sentence = f"Tool choice '{name}' not found in 'tools' parameter."
    body: Json = {"assistant_id": talk.assistant, "tool_choice": choice}
    assert await api.refused(f"{talk.path}/runs", body) == sentence
    assert await api.refused("/threads/runs", body) == sentence
    assert (await api.get(f"{talk.path}/runs"))["data"] == []
