"""Calls of tools that the run does not have: models know other names, or make them up."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.runs.driver import CODE, FUNCTION, Api, Json, parsed_all, pending
from threadloom.llm.chat import ToolMessage
from threadloom.testing import EchoTool, ScriptedModel

PYTHON: Json = {"type": "function", "function": {"name": "python"}}


def told(model: ScriptedModel) -> list[str]:
    """What the model heard last of its calls."""
    return [one.text for one in model.requests[-1].messages if isinstance(one, ToolMessage)]


@pytest.mark.parametrize(
    "name",
    [
        *("python", "python3", "Python", "jupyter", "code", "execute_python", "run_python"),
        *("code_interpreter.python", "code_interpreter.run", "functions.code_interpreter"),
    ],
)
async def test_other_names_of_the_code_interpreter_are_understood(
    api: Api, model: ScriptedModel, tool: EchoTool, name: str
) -> None:
    model.calls((name, "print(1)"))
    model.says("Done.")
    talk = await api.talk(tools=[FUNCTION, CODE])
    run = await talk.ask()
    step, _ = await talk.steps(run)
    (call,) = step["step_details"]["tool_calls"]
    assert call["code_interpreter"]["input"] == "print(1)"
    assert [(one.name, one.arguments) for one in tool.calls] == [("code_interpreter", "print(1)")]
    assert told(model) == ["print(1)"]


@pytest.mark.parametrize("tools", [[PYTHON, CODE], [PYTHON]])
async def test_a_function_of_such_a_name_is_the_clients(
    api: Api, model: ScriptedModel, tool: EchoTool, tools: list[Json]
) -> None:
    model.calls(("python", "{}"))
    talk = await api.talk(tools=tools)
    run = await talk.ask()
    assert (run["status"], len(pending(run)), tool.calls) == ("requires_action", 1, [])


@pytest.mark.parametrize(
    ("name", "tools", "sentence"),
    [
        ("time", [FUNCTION, CODE], "The functions are: weather, code_interpreter."),
        ("python", [FUNCTION], "The functions are: weather."),
        ("code_interpreter", [], "There are no functions."),
    ],
)
async def test_the_model_is_told_of_a_function_that_does_not_exist(
    api: Api, model: ScriptedModel, tool: EchoTool, name: str, tools: list[Json], sentence: str
) -> None:
    model.calls((name, '{"a": 1}'))
    model.says("So.")
    talk = await api.talk(tools=tools)
    events = parsed_all(await talk.transcript())
    run = await talk.rested(events[0].json)
    said = f"There is no function named '{name}'. {sentence}"
    assert (run["status"], told(model), tool.calls) == ("completed", [said], [])
    step, _ = await talk.steps(run)
    (call,) = step["step_details"]["tool_calls"]
    assert call["function"] == {"name": name, "arguments": '{"a": 1}', "output": said}
    (done,) = [one.json for one in events if one.name == "thread.run.step.completed"][:1]
    assert done == step


async def test_the_client_is_asked_only_for_its_functions(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("time", "{}"), ("weather", "{}"), ("python", "1"))
    model.says("So.")
    talk = await api.talk(tools=[FUNCTION, CODE])
    run = await talk.ask()
    (asked,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert asked["function"]["name"] == "weather"
    await talk.submit(run, "sunny")
    assert (await talk.rested(run))["status"] == "completed"
    missing = "There is no function named 'time'. The functions are: weather, code_interpreter."
    assert told(model) == [missing, "sunny", "1"]


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return getattr(request, "param", {})


@pytest.mark.parametrize("settings", [{"runs": {"max_turns": 2}}], indirect=True)
async def test_a_model_that_goes_on_so_is_stopped(api: Api, model: ScriptedModel) -> None:
    for _ in range(3):
        model.calls(("time", "{}"))
    talk = await api.talk(tools=[FUNCTION])
    run = await talk.ask()
    assert (run["status"], len(model.requests)) == ("failed", 2)
    assert run["last_error"]["message"] == "The model called tools 2 times without an answer."
