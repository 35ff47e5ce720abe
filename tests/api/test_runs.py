"""Runs on the wire: what they inherit, what they override, what refuses them. Streams are in tests/runs."""

from typing import Any

import httpx2

from tests.api.wire import (
    NOW,
    Json,
    answer,
    get,
    make_assistant,
    make_file,
    make_run,
    make_thread,
    nth,
    post,
    refusal,
    run_to_end,
)
from tests.support.server import Running
from threadloom.testing import ScriptedModel

BARE: Json = {
    "id": nth("run"),
    "object": "thread.run",
    "created_at": NOW,
    "assistant_id": nth("asst"),
    "thread_id": nth("thread"),
    "status": "queued",
    "started_at": None,
    "expires_at": NOW + 600,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": None,
    "required_action": None,
    "last_error": None,
    "model": "gpt-4o",
    "instructions": "",
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "reasoning_effort": None,
    "max_completion_tokens": None,
    "max_prompt_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "incomplete_details": None,
    "usage": None,
    "response_format": "auto",
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
FUNCTION: Json = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    },
}
OVERRIDES: Json = {
    "model": "other",
    "instructions": "Be exact.",
    "tools": [FUNCTION],
    "metadata": {"a": "1"},
    "temperature": 0.0,
    "top_p": 0.0,
    "reasoning_effort": "high",
    "max_prompt_tokens": 256,
    "max_completion_tokens": 16,
    "truncation_strategy": {"type": "last_messages", "last_messages": 3},
    "response_format": {"type": "json_object"},
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
}
CHOICES: list[Any] = [
    "none",
    "auto",
    "required",
    {"type": "function", "function": {"name": "f"}},
    {"type": "file_search"},
    {"type": "code_interpreter"},
]
PATH = f"/threads/{nth('thread')}/runs"
SUBMIT = {"tool_outputs": [{"tool_call_id": "call_1", "output": "1"}]}


async def test_a_new_run_has_its_defaults(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw)
    await make_thread(raw, "Hi")
    made = await post(raw, PATH, {"assistant_id": assistant["id"]})
    assert made == BARE
    assert await get(raw, f"{PATH}/{made['id']}") == made


async def test_a_run_shows_what_it_takes_from_its_assistant(raw: httpx2.AsyncClient) -> None:
    taken = {
        key: OVERRIDES[key]
        for key in (
            *("model", "instructions", "tools", "temperature"),
            *("top_p", "reasoning_effort", "response_format"),
        )
    }
    assistant = await make_assistant(raw, **taken)
    await make_thread(raw, "Hi")
    assert await post(raw, PATH, {"assistant_id": assistant["id"]}) == BARE | taken


async def test_a_run_shows_what_it_overrides(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw)
    await make_thread(raw, "Hi")
    made = await post(raw, PATH, {"assistant_id": assistant["id"]} | OVERRIDES)
    assert made == BARE | OVERRIDES


async def test_later_changes_of_the_assistant_do_not_reach_a_run(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    await post(raw, f"/assistants/{run['assistant_id']}", {"model": "other", "instructions": None})
    assert await get(raw, f"{PATH}/{run['id']}") == run


async def test_a_thread_and_its_run_can_be_made_at_once(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw)
    thread = {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": "1"}}
    resources = {"code_interpreter": {"file_ids": [(await make_file(raw))["id"]]}}
    body = {"assistant_id": assistant["id"], "thread": thread, "tool_resources": resources}
    run = await post(raw, "/threads/runs", body)
    assert run == BARE | {"tool_resources": resources}
    assert (await get(raw, f"/threads/{run['thread_id']}"))["metadata"] == {"a": "1"}


async def test_every_form_of_tool_choice_is_echoed(raw: httpx2.AsyncClient) -> None:
    function = {"type": "function", "function": {"name": "f"}}
    tools = [function, {"type": "file_search"}, {"type": "code_interpreter"}]
    runs = [await make_run(raw, tool_choice=choice, tools=tools) for choice in CHOICES]
    assert [run["tool_choice"] for run in runs] == CHOICES


async def test_a_run_needs_a_known_assistant_and_thread(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw, instructions="Be brief.")
    await make_thread(raw, "Hi")
    no_assistant = refusal(404, "No assistant found with id 'asst_unknown'.")
    no_thread = refusal(404, "No thread found with id 'thread_unknown'.")
    unknown, known = {"assistant_id": "asst_unknown"}, {"assistant_id": assistant["id"]}
    assert answer(await raw.post(PATH, json=unknown)) == no_assistant
    assert answer(await raw.post("/threads/runs", json=unknown)) == no_assistant
    assert answer(await raw.post("/threads/thread_unknown/runs", json=known)) == no_thread
    assert answer(await raw.get("/threads/thread_unknown/runs")) == no_thread


async def test_faults_come_before_a_stream_begins(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw, "Hi")
    body = {"assistant_id": "asst_unknown", "stream": True}
    refused = refusal(404, "No assistant found with id 'asst_unknown'.")
    assert answer(await raw.post(PATH, json=body)) == refused
    assert answer(await raw.post("/threads/runs", json=body)) == refused


async def test_an_unknown_run_is_not_found(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    other = await make_thread(raw)
    missing = refusal(404, "No run found with id 'run_unknown'.")
    elsewhere = refusal(404, f"No run found with id '{run['id']}'.")
    assert await answers_of_run(raw, f"{PATH}/run_unknown") == [missing] * 7
    assert await answers_of_run(raw, f"/threads/{other['id']}/runs/{run['id']}") == [elsewhere] * 7


async def test_an_id_of_another_kind_is_refused(raw: httpx2.AsyncClient) -> None:
    refused = refusal(
        400,
        "Invalid 'run_id': 'undefined'. Expected an ID that begins with 'run'.",
        param="run_id",
        code="invalid_value",
    )
    assert await answers_of_run(raw, f"{PATH}/undefined") == [refused] * 7


async def test_an_assistant_is_named_by_its_id(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw, "Hi")
    refused = refusal(
        400,
        "Invalid 'assistant_id': 'Support'. Expected an ID that begins with 'asst'.",
        param="assistant_id",
        code="invalid_value",
    )
    body = {"assistant_id": "Support"}
    assert answer(await raw.post(PATH, json=body)) == refused
    assert answer(await raw.post("/threads/runs", json=body)) == refused


async def answers_of_run(raw: httpx2.AsyncClient, path: str) -> list[tuple[int, Json]]:
    """What all paths of one run answer."""
    return [
        answer(await raw.get(path)),
        answer(await raw.post(path, json={})),
        answer(await raw.post(f"{path}/cancel")),
        answer(await raw.post(f"{path}/submit_tool_outputs", json=SUBMIT)),
        answer(await raw.get(f"{path}/steps")),
        answer(await raw.get(f"{path}/steps/step_unknown")),
        answer(await raw.get(f"{path}/events")),
    ]


async def test_modifying_replaces_the_metadata_whole(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw, metadata={"a": "1"})
    path = f"{PATH}/{run['id']}"
    assert await post(raw, path, {}) == run
    assert await post(raw, path, {"metadata": None}) == run
    assert await post(raw, path, {"metadata": {"b": "2"}}) == run | {"metadata": {"b": "2"}}


async def test_cancelling_answers_at_once(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    assert await post(raw, f"{PATH}/{run['id']}/cancel") == run | {"status": "cancelling"}
    again = await raw.post(f"{PATH}/{run['id']}/cancel")
    assert answer(again) == refusal(400, "Cannot cancel run with status 'cancelling'.")


async def test_an_ended_run_cannot_be_cancelled(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    refused = await http.post(f"/threads/{run['thread_id']}/runs/{run['id']}/cancel")
    assert answer(refused) == refusal(400, "Cannot cancel run with status 'completed'.")


async def test_only_a_waiting_run_takes_outputs(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    refused = await raw.post(f"{PATH}/{run['id']}/submit_tool_outputs", json=SUBMIT)
    assert answer(refused) == refusal(400, 'Runs in status "queued" do not accept tool outputs.')


async def test_a_run_asks_for_what_its_functions_return(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("f", '{"a": 1}'), ("f", "not json"))
    run = await run_to_end(http, tools=[FUNCTION])
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert (run["status"], run["usage"]) == ("requires_action", None)
    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": '{"a": 1}'},
        {"name": "f", "arguments": "not json"},
    ]


async def test_outputs_must_be_those_of_the_pending_calls(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("f", "{}"), ("f", "{}"))
    run = await run_to_end(http, tools=[FUNCTION])
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    one, two = [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
    for given in ([one], [one, one], [one, two, two], [one, "call_x"], []):
        outputs = {"tool_outputs": [{"tool_call_id": id_, "output": "1"} for id_ in given]}
        assert answer(await http.post(path, json=outputs)) == refusal(
            400, f"Expected tool outputs for call_ids ['{one}', '{two}'], got {given}"
        )


async def test_outputs_come_in_any_order_and_may_be_missing(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("f", "{}"), ("f", "{}"), ("f", "{}"))
    model.says("Done")
    run = await run_to_end(http, tools=[FUNCTION])
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    ids = [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
    outputs: list[Json] = [
        {"tool_call_id": ids[2], "output": "3"},
        {"tool_call_id": ids[0], "output": None},
        {"tool_call_id": ids[1]},
    ]
    queued = await post(
        http, f"{path}/submit_tool_outputs", {"tool_outputs": outputs, "stream": None}
    )
    assert (queued["status"], queued["required_action"]) == ("queued", None)
    await http.get(f"{path}/events")
    steps = (await get(http, f"{path}/steps", order="asc"))["data"]
    calls = steps[0]["step_details"]["tool_calls"]
    assert [call["function"]["output"] for call in calls] == ["", "", "3"]


async def test_a_completed_run_shows_its_usage(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    assert (run["status"], run["expires_at"], run["last_error"]) == ("completed", None, None)
    assert run["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_token_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_a_failed_run_says_why(http: httpx2.AsyncClient, model: ScriptedModel) -> None:
    model.fails("rate_limit_exceeded", "Slow down.")
    run = await run_to_end(http)
    assert (run["status"], run["expires_at"]) == ("failed", run["expires_at"])
    assert run["last_error"] == {"code": "rate_limit_exceeded", "message": "Slow down."}


async def test_polling_is_paced_until_the_run_is_final(still: Running) -> None:
    async with still.http() as raw:
        run = await make_run(raw)
        waiting = await raw.get(f"{PATH}/{run['id']}")
        assert waiting.headers["openai-poll-after-ms"] == "500"


async def test_a_final_run_is_not_polled(http: httpx2.AsyncClient, model: ScriptedModel) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    final = await http.get(f"/threads/{run['thread_id']}/runs/{run['id']}")
    assert "openai-poll-after-ms" not in final.headers


async def test_runs_of_all_threads_are_listed_by_status(raw: httpx2.AsyncClient) -> None:
    runs = [await make_run(raw) for _ in range(3)]
    await post(raw, f"/threads/{runs[1]['thread_id']}/runs/{runs[1]['id']}/cancel")
    assert await listed(raw) == [nth("run", 3), nth("run", 2), nth("run", 1)]
    assert await listed(raw, status="cancelling") == [nth("run", 2)]
    assert await listed(raw, status=["queued", "cancelling"], limit=2) == [
        nth("run", 3),
        nth("run", 2),
    ]
    assert await listed(raw, status="failed") == []


async def test_an_unknown_status_is_refused(raw: httpx2.AsyncClient) -> None:
    status, body = answer(await raw.get("/runs", params={"status": "done"}))
    assert (status, body["error"]["code"]) == (400, "invalid_value")
    assert body["error"]["message"].startswith("Invalid value: 'done'. Supported values are: ")


async def listed(raw: httpx2.AsyncClient, **query: Any) -> list[str]:
    return [run["id"] for run in (await get(raw, "/runs", **query))["data"]]


async def test_a_stream_can_be_taken_up_after_any_event(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hel", "lo")
    run = await run_to_end(http)
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/events"
    whole = (await http.get(path)).text
    blocks = whole.split("\n\n")
    event_id = blocks[3].rpartition("id: ")[2]
    rest = "\n\n".join(blocks[4:])
    assert (await http.get(path, params={"after": event_id})).text == rest
    assert (await http.get(path, headers={"Last-Event-ID": event_id})).text == rest


async def test_a_cursor_that_is_no_event_is_refused(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    for wrong in ("x", "1", "1-", "-1", "1-x", "²-1", "9" * 30 + "-1"):
        refused = await raw.get(f"{PATH}/{run['id']}/events", params={"after": wrong})
        assert answer(refused) == refusal(
            400,
            f"Invalid 'after': '{wrong}' is not the id of an event.",
            param="after",
            code="invalid_value",
        )
