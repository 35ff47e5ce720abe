"""Assistants on the wire: defaults, normalisation, what modifying changes."""

from typing import Any

import httpx2

from tests.api.wire import (
    NOW,
    Json,
    answer,
    answers_to_all_methods,
    get,
    make_assistant,
    nth,
    post,
    refusal,
)

BARE: Json = {
    "id": nth("asst"),
    "object": "assistant",
    "created_at": NOW,
    "name": None,
    "description": None,
    "model": "gpt-4o",
    "instructions": None,
    "tools": [],
    "top_p": 1.0,
    "temperature": 1.0,
    "reasoning_effort": None,
    "tool_resources": {},
    "metadata": {},
    "response_format": "auto",
}
FULL: Json = {
    "model": "gpt-4o",
    "name": "Math tutor",
    "description": "Helps with sums.",
    "instructions": "Be exact.",
    "tools": [{"type": "code_interpreter"}],
    "tool_resources": {"code_interpreter": {"file_ids": []}},
    "metadata": {"team": "a"},
    "temperature": 0.0,
    "top_p": 0.5,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SEARCH: Json = {
    "type": "file_search",
    "file_search": {"ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.0}},
}


async def test_a_new_assistant_has_its_defaults(raw: httpx2.AsyncClient) -> None:
    assert await post(raw, "/assistants", {"model": "gpt-4o"}) == BARE


async def test_an_assistant_keeps_what_it_was_given(raw: httpx2.AsyncClient) -> None:
    made = await post(raw, "/assistants", FULL)
    assert made == BARE | FULL
    assert await get(raw, f"/assistants/{made['id']}") == made


NORMALISED: list[tuple[Json, Json]] = [
    (
        {"type": "function", "function": {"name": "f"}},
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        },
    ),
    (
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "Finds.",
                "parameters": PARAMETERS,
                "strict": True,
            },
        },
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "Finds.",
                "parameters": PARAMETERS,
                "strict": True,
            },
        },
    ),
    ({"type": "code_interpreter"}, {"type": "code_interpreter"}),
    ({"type": "file_search"}, SEARCH),
    ({"type": "file_search", "file_search": {}}, SEARCH),
    (
        {"type": "file_search", "file_search": {"max_num_results": 7}},
        {"type": "file_search", "file_search": {"max_num_results": 7} | SEARCH["file_search"]},
    ),
    (
        {
            "type": "file_search",
            "file_search": {"ranking_options": {"ranker": "auto", "score_threshold": 0.5}},
        },
        {
            "type": "file_search",
            "file_search": {
                "ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.5}
            },
        },
    ),
]


async def test_tools_are_sent_back_in_their_order_and_their_full_form(
    raw: httpx2.AsyncClient,
) -> None:
    made = await make_assistant(raw, tools=[sent for sent, _ in NORMALISED])
    assert made["tools"] == [stored for _, stored in NORMALISED]
    assert await get(raw, f"/assistants/{made['id']}") == made


async def test_a_code_interpreter_without_files_has_an_empty_list(raw: httpx2.AsyncClient) -> None:
    made = await make_assistant(raw, tools=[{"type": "code_interpreter"}])
    assert made["tool_resources"] == {"code_interpreter": {"file_ids": []}}


async def test_switching_code_on_later_adds_the_empty_list_too(raw: httpx2.AsyncClient) -> None:
    made = await make_assistant(raw)
    changed = await post(
        raw, f"/assistants/{made['id']}", {"tools": [{"type": "code_interpreter"}]}
    )
    assert changed["tool_resources"] == {"code_interpreter": {"file_ids": []}}


CHANGES: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"name": "Other"}, {"name": "Other"}),
    (
        {"name": None, "description": None, "instructions": None},
        {"name": None, "description": None, "instructions": None},
    ),
    ({"name": "", "instructions": ""}, {"name": "", "instructions": ""}),
    ({"tools": []}, {"tools": []}),
    ({"metadata": {"a": "1"}}, {"metadata": {"a": "1"}}),
    ({"metadata": {}}, {"metadata": {}}),
    ({"temperature": 0, "top_p": 0}, {"temperature": 0.0, "top_p": 0.0}),
    ({"model": "other"}, {"model": "other"}),
    ({"response_format": "auto"}, {"response_format": "auto"}),
    ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
    (
        dict.fromkeys(("model", "tools", "tool_resources", "metadata", "temperature", "top_p")),
        {},
    ),
    (
        {"tool_resources": {"file_search": {"vector_store_ids": []}}},
        {
            "tool_resources": {
                "code_interpreter": {"file_ids": []},
                "file_search": {"vector_store_ids": []},
            }
        },
    ),
]


async def test_modifying_changes_only_the_given_keys(raw: httpx2.AsyncClient) -> None:
    for change, difference in CHANGES:
        made = await post(raw, "/assistants", FULL)
        assert await post(raw, f"/assistants/{made['id']}", change) == made | difference
        assert await get(raw, f"/assistants/{made['id']}") == made | difference


FORMATS: list[Any] = [
    "auto",
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": PARAMETERS, "strict": True}},
    {"type": "json_schema", "json_schema": {"name": "n", "description": "d"}},
]


async def test_response_formats_are_echoed(raw: httpx2.AsyncClient) -> None:
    made = [await make_assistant(raw, response_format=form) for form in FORMATS]
    assert [assistant["response_format"] for assistant in made] == FORMATS


async def test_a_deleted_assistant_is_gone(raw: httpx2.AsyncClient) -> None:
    made = await make_assistant(raw)
    deleted = await raw.delete(f"/assistants/{made['id']}")
    assert answer(deleted) == (
        200,
        {"id": made["id"], "object": "assistant.deleted", "deleted": True},
    )
    gone = refusal(404, f"No assistant found with id '{made['id']}'.")
    assert answer(await raw.get(f"/assistants/{made['id']}")) == gone
    assert answer(await raw.delete(f"/assistants/{made['id']}")) == gone


async def test_an_unknown_assistant_is_not_found(raw: httpx2.AsyncClient) -> None:
    refused = refusal(404, "No assistant found with id 'asst_unknown'.")
    assert await answers_to_all_methods(raw, "/assistants/asst_unknown") == [refused] * 3


async def test_an_id_of_another_kind_is_refused(raw: httpx2.AsyncClient) -> None:
    refused = refusal(
        400,
        "Invalid 'assistant_id': 'undefined'. Expected an ID that begins with 'asst'.",
        param="assistant_id",
        code="invalid_value",
    )
    assert await answers_to_all_methods(raw, "/assistants/undefined") == [refused] * 3


async def test_the_runs_of_a_deleted_assistant_stay_readable(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw, instructions="Be brief.")
    thread = await post(raw, "/threads")
    run = await post(raw, f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})
    await raw.delete(f"/assistants/{assistant['id']}")
    assert await get(raw, f"/threads/{thread['id']}/runs/{run['id']}") == run
