"""Whatever is sent, the answer is a refusal that names what is wrong: never a 422, never a fault of the server."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import orjson

from tests.api.wire import Answer, Json, answer, make_assistant, make_run, make_thread, refusal
from tests.support.server import Running
from threadloom.api.validation import NOT_JSON

ALLOWED = {200, 400, 401, 404, 413}
UNREADABLE = refusal(400, NOT_JSON)
NOT_JSON_AT_ALL = [
    b"{",
    b"nul",
    b"model=gpt-4o",
    b"{'model': 'm'}",
    b'{"model": "m",}',
    b'{"model": NaN}',
    b'{"temperature": Infinity}',
    b'{"model": "\\ud800"}',
    b'{"model": "\xff"}',
    b'\xef\xbb\xbf{"model": "m"}',
    '{"model": "m"}'.encode("utf-16"),
    b'{"model": "m"} {}',
    b'{"model": "a\x00b"}',
]
DEEP = b"[" * 100_000
NESTED = b'{"model": "m", "metadata": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001
NASTY: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1e308,
    "",
    "\x00",
    "x" * 300_000,
    [],
    [{}],
    {"type": "nope"},
    {"\x00": "\x00"},
]


HARD_TO_STORE = re.compile(rb"\\u0000|9223372036854775808|1e308|x{300000}")


ASSISTANT_FAULTS: list[tuple[bytes, str, str | None]] = [
    (b"{}", "missing_required_parameter", "model"),
    (b'{"model": ""}', "empty_string", "model"),
    (b'{"model": null}', "invalid_type", "model"),
    (b'{"model": 1}', "invalid_type", "model"),
    (b'{"model": "m", "zzz": 1}', "unknown_parameter", "zzz"),
    (b'{"model": "m", "temperature": "1"}', "invalid_type", "temperature"),
    (b'{"model": "m", "temperature": 3}', "decimal_above_max_value", "temperature"),
    (b'{"model": "m", "top_p": -0.1}', "decimal_below_min_value", "top_p"),
    (b'{"model": "m", "tools": {}}', "invalid_type", "tools"),
    (b'{"model": "m", "tools": [{}]}', "missing_required_parameter", "tools[0].type"),
    (b'{"model": "m", "tools": [{"type": "x"}]}', "invalid_value", "tools[0].type"),
    (
        b'{"model": "m", "tools": [{"type": "function"}]}',
        "missing_required_parameter",
        "tools[0].function",
    ),
    (
        b'{"model": "m", "tools": [{"type": "function", "function": {"name": "a b"}}]}',
        "invalid_value",
        "tools[0].function.name",
    ),
    (b'{"model": "m", "metadata": {"a": 1}}', "invalid_type", "metadata.a"),
    (b'{"model": "m", "metadata": []}', "invalid_type", "metadata"),
    (b'{"model": "m", "metadata": {"a": "\\u0000"}}', "invalid_value", "metadata.a"),
    (b'{"model": "\\u0000"}', "invalid_value", "model"),
    (b'{"model": "m", "reasoning_effort": "extreme"}', "invalid_value", "reasoning_effort"),
    (b'{"model": "m", "response_format": "json"}', "invalid_value", "response_format"),
    (
        b'{"model": "m", "tool_resources": {"code_interpreter": {"files": []}}}',
        "unknown_parameter",
        "tool_resources.code_interpreter.files",
    ),
]


def too_long() -> Iterator[tuple[Json, str, str]]:
    text = "string_above_max_length"
    files = [f"file-{number}" for number in range(21)]
    function = {"type": "function", "function": {"name": "f" * 65}}
    yield {"name": "x" * 257}, text, "name"
    yield {"description": "x" * 513}, text, "description"
    yield {"instructions": "x" * 256_001}, text, "instructions"
    yield {"metadata": {"a": "x" * 513}}, text, "metadata.a"
    yield {"metadata": {"k" * 65: "a"}}, "property_name_above_max_length", "metadata." + "k" * 65
    yield {"metadata": {str(n): "a" for n in range(17)}}, "object_above_max_properties", "metadata"
    yield {"tools": [{"type": "code_interpreter"}] * 129}, "array_above_max_length", "tools"
    yield {"tools": [function]}, text, "tools[0].function.name"
    yield (
        {"tool_resources": {"code_interpreter": {"file_ids": files}}},
        "array_above_max_length",
        "tool_resources.code_interpreter.file_ids",
    )
    yield (
        {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1", "vs_2"]}}},
        "array_above_max_length",
        "tool_resources.file_search.vector_store_ids",
    )


def told(response: httpx2.Response) -> tuple[int, str | None, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


async def test_a_body_that_is_no_json_is_refused(raw: httpx2.AsyncClient) -> None:
    for body in NOT_JSON_AT_ALL:
        assert answer(await raw.post("/assistants", content=body)) == UNREADABLE, body


async def test_deep_json_is_refused(raw: httpx2.AsyncClient) -> None:
    message = "The JSON body of your request is nested too deeply. Expected at most 100 levels."
    refused = refusal(400, message, code="invalid_value")
    assert answer(await raw.post("/assistants", content=NESTED)) == refused
    assert (await raw.post("/assistants", content=DEEP)).status_code == 400


async def test_a_body_that_is_no_object_is_refused(raw: httpx2.AsyncClient) -> None:
    for body in (b"[]", b"1", b'"x"', b"true"):
        assert told(await raw.post("/assistants", content=body)) == (400, "invalid_type", None)


async def test_a_body_that_is_needed_is_asked_for(raw: httpx2.AsyncClient) -> None:
    nothing = await raw.post("/assistants", content=b"")
    assert told(nothing) == (400, "missing_required_parameter", None)
    null = await raw.post("/assistants", content=b"null")
    assert told(null) == (400, "invalid_type", None)


async def test_each_fault_has_its_code_and_its_place(raw: httpx2.AsyncClient) -> None:
    for body, code, param in ASSISTANT_FAULTS:
        assert told(await raw.post("/assistants", content=body)) == (400, code, param), body


async def test_what_is_too_long_is_refused(raw: httpx2.AsyncClient) -> None:
    for fields, code, param in too_long():
        body = {"model": "m"} | fields
        assert told(await raw.post("/assistants", json=body)) == (400, code, param)


async def test_long_messages_are_refused(raw: httpx2.AsyncClient) -> None:
    path = f"/threads/{(await make_thread(raw))['id']}/messages"
    message = {"role": "user", "content": "x" * 256_001}
    assert answer(await raw.post(path, json=message)) == refusal(
        400,
        "Invalid 'content': string too long. Expected a string with maximum length 256000, "
        "but got a string with length 256001 instead.",
        param="content",
        code="string_above_max_length",
    )
    empty = await raw.post(path, json={"role": "user", "content": []})
    assert told(empty) == (400, "empty_array", "content")
    system = await raw.post(path, json={"role": "system", "content": "Hi"})
    assert told(system) == (400, "invalid_value", "role")
    first = await raw.post("/threads", json={"messages": [message]})
    assert told(first) == (400, "string_above_max_length", "messages[0].content")


async def test_the_last_of_equal_keys_counts(raw: httpx2.AsyncClient) -> None:
    made = await raw.post("/assistants", content=b'{"model": "a", "model": "b"}')
    assert made.json()["model"] == "b"


async def test_numbers_beyond_64_bits_are_refused(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw, instructions="Be brief.")
    for number in (2**63, 2**64 - 1, 2**64):
        for name in ("max_completion_tokens", "max_prompt_tokens"):
            body = b'{"assistant_id": "%b", "%b": %d}'
            filled = body % (assistant["id"].encode(), name.encode(), number)
            refused = await raw.post("/threads/runs", content=filled)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert answer(await raw.post("/threads/runs", content=b"%d" % 10**400)) == UNREADABLE


NUL_PATHS = [
    "/assistants/asst_%00",
    "/threads/thread_%00",
    "/threads/thread_%00/messages",
    "/threads/thread_1/messages/msg_%00",
    "/threads/thread_1/runs/run_%00",
    "/threads/thread_1/runs/run_1/steps/step_%00",
    "/models/%00",
    "/%00",
    "/assistants?after=%00",
    "/assistants?before=a%00b",
    "/assistants?order=%00",
    "/threads?metadata[a]=%00",
    "/threads?metadata[%00]=a",
    "/runs?status=%00",
    "/threads/thread_1/messages?run_id=%00",
]


async def test_addresses_with_nul_are_refused(raw: httpx2.AsyncClient) -> None:
    root = str(raw.base_url).rstrip("/")
    message = "The address of your request contains a NUL character, which databases cannot store."
    for path in NUL_PATHS:
        refused = await raw.get(httpx2.URL(root + path))
        assert answer(refused) == refusal(400, message, code="invalid_value"), path


ODD = ["%ED%A0%80", "%FF", "%F0%9F%99%82", "x" * 10_000, "%25", "%2e%2e", "%0A", "'--", "%22"]


async def test_odd_addresses_are_only_unknown(raw: httpx2.AsyncClient) -> None:
    root = str(raw.base_url).rstrip("/")
    for odd in ODD:
        for path in NUL_PATHS:
            response = await raw.get(httpx2.URL(root + path.replace("%00", odd)))
            assert response.status_code in ALLOWED, (path, response.text)


async def test_no_body_breaks_the_server(still: Running) -> None:
    """Every field of every POST route, with every nasty value, beside fields that are in order.

    On PostgreSQL those that a database may refuse: the others are judged before it is asked.
    """
    lite = still.database.engine.dialect.name == "sqlite"
    async with still.http() as raw:
        for path, body in await posts(raw):
            sent = [each for each in variants(body) if lite or HARD_TO_STORE.search(each)]
            answers = [await raw.post(path, content=each) for each in sent]
            assert {response.status_code for response in answers} <= ALLOWED, path


async def posts(raw: httpx2.AsyncClient) -> list[tuple[str, Json]]:
    """Every POST route with a body that has all its fields."""
    assistant = await make_assistant(raw, instructions="Be brief.")
    thread = await make_thread(raw, "Hi")
    run = await make_run(raw)
    message: Json = {"role": "user", "content": "Hi", "attachments": [], "metadata": {}}
    resources: Json = {
        "code_interpreter": {"file_ids": ["file-1"]},
        "file_search": {"vector_store_ids": ["vs_1"], "vector_stores": None},
    }
    options: Json = {
        "model": "m",
        "instructions": "Be brief.",
        "tools": [
            {"type": "file_search", "file_search": {"ranking_options": {"score_threshold": 0}}},
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}},
        ],
        "metadata": {"a": "1"},
        "temperature": 1,
        "top_p": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "reasoning_effort": "low",
    }
    fields = {"name": "n", "description": "d", "tool_resources": resources} | options
    run_fields = {
        "assistant_id": assistant["id"],
        "stream": False,
        "max_prompt_tokens": 1000,
        "max_completion_tokens": 1000,
        "truncation_strategy": {"type": "last_messages", "last_messages": 1},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": True,
    } | options
    path = f"/threads/{run['thread_id']}"
    run_path = f"{path}/runs/{run['id']}"
    more: Json = {"additional_instructions": "i", "additional_messages": [message]}
    outputs = [{"tool_call_id": "call_1", "output": "1"}]
    first: Json = {"messages": [message], "tool_resources": resources, "metadata": {}}
    return [
        ("/assistants", fields),
        (f"/assistants/{assistant['id']}", fields),
        ("/threads", first),
        (f"/threads/{thread['id']}", {"tool_resources": resources, "metadata": {}}),
        (f"/threads/{thread['id']}/messages", message),
        (f"{path}/messages", message),
        (f"{path}/runs", run_fields | more),
        ("/threads/runs", run_fields | {"thread": first, "tool_resources": resources}),
        (run_path, {"metadata": {}}),
        (f"{run_path}/submit_tool_outputs", {"tool_outputs": outputs, "stream": False}),
        (f"{run_path}/cancel", {}),
    ]


def variants(body: Json) -> Iterator[bytes]:
    yield from NOT_JSON_AT_ALL
    yield from (b"", b"[]", b"1", b"null", DEEP, NESTED)
    yield from (orjson.dumps(changed) for changed in changes(body) if writable(changed))


def writable(body: object) -> bool:
    return not re.search("stream.: True", str(body))  # a stream would wait for a worker


def changes(value: Any) -> Iterator[Any]:
    """The value with each of its parts replaced by something nasty, or left out."""
    yield from NASTY
    if isinstance(value, dict):
        for key in value:  # pyright: ignore[reportUnknownVariableType]
            yield from ({**value, key: changed} for changed in changes(value[key]))
            yield {name: part for name, part in value.items() if name != key}  # pyright: ignore[reportUnknownVariableType]
        yield {**value, "zzz": 1}
    if isinstance(value, list):
        for at, part in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in changes(part))


NULLS: list[tuple[str, Json]] = [
    (
        "/assistants",
        {
            "model": "m",
            **dict.fromkeys(("name", "description", "instructions", "tools", "tool_resources")),
            **dict.fromkeys(("metadata", "temperature", "top_p", "response_format")),
            "reasoning_effort": None,
        },
    ),
    (
        "/assistants",
        {
            "model": "m",
            "tools": [
                {
                    "type": "function",
                    "function": dict.fromkeys(("description", "parameters", "strict"))
                    | {"name": "f"},
                },
                {"type": "file_search", "file_search": None},
                {
                    "type": "file_search",
                    "file_search": dict.fromkeys(("max_num_results", "ranking_options")),
                },
                {
                    "type": "file_search",
                    "file_search": {
                        "ranking_options": {
                            "ranker": None,
                            "score_threshold": 0,
                            "hybrid_search": None,
                        }
                    },
                },
            ],
            "tool_resources": {
                "code_interpreter": {"file_ids": None},
                "file_search": {"vector_store_ids": None, "vector_stores": None},
            },
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "description": None, "schema": None, "strict": None},
            },
        },
    ),
    ("/threads", dict.fromkeys(("messages", "tool_resources", "metadata"))),
    (
        "/threads",
        {"messages": [{"role": "user", "content": "Hi", "attachments": None, "metadata": None}]},
    ),
    (
        "/threads",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "https://a.b/c", "detail": None},
                        },
                        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": None}},
                    ],
                    "attachments": [{"file_id": None, "tools": None}],
                }
            ]
        },
    ),
]


async def test_null_means_that_a_field_was_not_given(raw: httpx2.AsyncClient) -> None:
    for path, body in NULLS:
        made = await raw.post(path, json=body)
        assert made.status_code == 200, (made.text, body)


async def test_every_option_of_a_run_may_be_null(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw, instructions="Be brief.")
    thread = await make_thread(raw, "Hi")
    nulls: Json = dict.fromkeys(
        (
            *("model", "instructions", "tools", "metadata", "temperature", "top_p", "stream"),
            *("max_prompt_tokens", "max_completion_tokens", "truncation_strategy", "tool_choice"),
            *("parallel_tool_calls", "response_format", "reasoning_effort"),
        )
    )
    body = nulls | {"assistant_id": assistant["id"]}
    whole = body | {"thread": None, "tool_resources": None}
    more = body | {"additional_instructions": None, "additional_messages": None}
    strategy = {"truncation_strategy": {"type": "auto", "last_messages": None}}
    for path, sent in (
        ("/threads/runs", whole),
        ("/threads/runs", body | strategy),
        (
            "/threads/runs",
            body | {"thread": {"messages": None, "metadata": None, "tool_resources": None}},
        ),
        (
            "/threads/runs",
            body
            | {
                "tool_choice": {"type": "file_search", "function": None},
                "tools": [{"type": "file_search"}],
            },
        ),
        (f"/threads/{thread['id']}/runs", more),
    ):
        made = await raw.post(path, json=sent)
        assert made.status_code == 200, made.text


async def test_a_run_can_be_cancelled_with_any_body(raw: httpx2.AsyncClient) -> None:
    answers: list[Answer] = []
    for body in (b"", b"{}", b"null", b'{"reason": 1}', b"{"):
        run = await make_run(raw)
        path = f"/threads/{run['thread_id']}/runs/{run['id']}/cancel"
        answers.append(answer(await raw.post(path, content=body)))
    assert [(status, body["status"]) for status, body in answers] == [(200, "cancelling")] * 5
