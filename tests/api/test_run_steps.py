"""Run steps on the wire, and `include`."""

import httpx2

from tests.api.test_runs import FUNCTION
from tests.api.wire import Json, answer, get, refusal, run_to_end
from threadloom.testing import ScriptedModel

CONTENT = "step_details.tool_calls[*].file_search.results[*].content"


async def test_a_step_that_wrote_a_message_is_whole(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    path = path_of(run)
    (step,) = (await get(http, path))["data"]
    (message, _) = (await get(http, f"/threads/{run['thread_id']}/messages"))["data"]
    assert step == {
        "id": step["id"],
        "object": "thread.run.step",
        "created_at": step["created_at"],
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": "message_creation",
        "status": "completed",
        "cancelled_at": None,
        "completed_at": step["completed_at"],
        "expires_at": step["expires_at"],
        "expired_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": {
            "type": "message_creation",
            "message_creation": {"message_id": message["id"]},
        },
        "metadata": {},
        "usage": run["usage"],
    }
    assert await get(http, f"{path}/{step['id']}") == step


async def test_a_step_that_calls_functions_waits_for_their_outputs(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("f", '{"a": 1}'))
    run = await run_to_end(http, tools=[FUNCTION])
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    (step,) = (await get(http, path_of(run)))["data"]
    assert (step["status"], step["usage"], step["completed_at"]) == ("in_progress", None, None)
    assert step["step_details"]["tool_calls"] == [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": "f", "arguments": '{"a": 1}', "output": None},
        }
    ]


async def test_results_are_included_on_demand(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    path = path_of(await run_to_end(http))
    (step,) = (await get(http, path))["data"]
    for name in ("include", "include[]"):
        asked = await get(http, path, **{name: [CONTENT, CONTENT]})
        assert asked["data"] == [step]
        assert await get(http, f"{path}/{step['id']}", **{name: CONTENT}) == step


async def test_anything_else_cannot_be_included(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    path = path_of(run)
    refused = refusal(
        400,
        f"Invalid value: 'usage'. Supported values are: '{CONTENT}'.",
        param="include[0]",
        code="invalid_value",
    )
    for name in ("include", "include[]"):
        wrong = {name: "usage"}
        assert answer(await http.get(path, params=wrong)) == refused
        assert answer(await http.get(f"{path}/step_unknown", params=wrong)) == refused
        body = {"assistant_id": run["assistant_id"]}
        runs = f"/threads/{run['thread_id']}/runs"
        assert answer(await http.post(runs, params=wrong, json=body)) == refused


async def test_an_unknown_step_is_not_found(http: httpx2.AsyncClient, model: ScriptedModel) -> None:
    model.says("Hello")
    model.says("Hello")
    run, other = await run_to_end(http), await run_to_end(http)
    (step,) = (await get(http, path_of(run)))["data"]
    unknown = await http.get(f"{path_of(run)}/step_123")
    assert answer(unknown) == refusal(404, "No run step found with id 'step_123'.")
    elsewhere = await http.get(f"{path_of(other)}/{step['id']}")
    assert answer(elsewhere) == refusal(404, f"No run step found with id '{step['id']}'.")
    undefined = await http.get(f"{path_of(run)}/undefined")
    assert answer(undefined) == refusal(
        400,
        "Invalid 'step_id': 'undefined'. Expected an ID that begins with 'step'.",
        param="step_id",
        code="invalid_value",
    )


def path_of(run: Json) -> str:
    return f"/threads/{run['thread_id']}/runs/{run['id']}/steps"
