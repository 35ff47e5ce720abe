"""The texts of the hosted service; rows marked in BEHAVIOURS 1.5 as measured are copied word for word."""

from typing import Annotated, Any, cast, get_args

import pytest
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import core_schema

from threadloom.api.validation import explain
from threadloom.errors import InvalidRequest
from threadloom.types.assistants import AssistantCreate
from threadloom.types.messages import MessageCreate
from threadloom.types.runs import RunCreate, SubmitToolOutputs, ThreadAndRunCreate
from threadloom.types.threads import ThreadCreate

CODES = {
    "missing_required_parameter",
    "unknown_parameter",
    "invalid_type",
    "invalid_value",
    "string_above_max_length",
    "empty_string",
    "array_above_max_length",
    "empty_array",
    "integer_below_min_value",
    "integer_above_max_value",
    "decimal_below_min_value",
    "decimal_above_max_value",
    "object_above_max_properties",
    "property_name_above_max_length",
}
LONG_KEY = "k" * 70


def refusal(model: type[BaseModel], body: object) -> InvalidRequest:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return explain(caught.value.errors())


def function(**definition: object) -> dict[str, object]:
    return {"tools": [{"type": "function", "function": definition}]}


def content(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


ASSISTANT_ROWS: list[tuple[dict[str, object], str, str, str]] = [
    (
        {"zzz": 1},
        "unknown_parameter",
        "zzz",
        "Unknown parameter: 'zzz'.",
    ),
    (
        {"body": 1},
        "unknown_parameter",
        "body",
        "Unknown parameter: 'body'.",
    ),
    (
        {"name": True},
        "invalid_type",
        "name",
        "Invalid type for 'name': expected a string, but got a boolean instead.",
    ),
    (
        {"model": None},
        "invalid_type",
        "model",
        "Invalid type for 'model': expected a string, but got null instead.",
    ),
    (
        {"temperature": "hot"},
        "invalid_type",
        "temperature",
        "Invalid type for 'temperature': expected a decimal, but got a string instead.",
    ),
    (
        {"tools": "none"},
        "invalid_type",
        "tools",
        "Invalid type for 'tools': expected an array of objects, but got a string instead.",
    ),
    (
        {"tools": ["ping"]},
        "invalid_type",
        "tools[0]",
        "Invalid type for 'tools[0]': expected an object, but got a string instead.",
    ),
    (
        {"tool_resources": []},
        "invalid_type",
        "tool_resources",
        "Invalid type for 'tool_resources': expected an object, but got an array instead.",
    ),
    (
        {"metadata": 7},
        "invalid_type",
        "metadata",
        "Invalid type for 'metadata': expected a metadata object, but got an integer instead.",
    ),
    (
        {"metadata": {"k": True}},
        "invalid_type",
        "metadata.k",
        "Invalid type for 'metadata.k': expected a string, but got a boolean instead.",
    ),
    (
        {"metadata": {"[key]": 1.5}},
        "invalid_type",
        "metadata.[key]",
        "Invalid type for 'metadata.[key]': expected a string, but got a decimal number instead.",
    ),
    (
        {"reasoning_effort": "bogus"},
        "invalid_value",
        "reasoning_effort",
        "Invalid value: 'bogus'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'.",
    ),
    (
        {"reasoning_effort": {"a": 1}},
        "invalid_type",
        "reasoning_effort",
        (
            "Invalid type for 'reasoning_effort': expected one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', "
            "or 'max', but got an object instead."
        ),
    ),
    (
        {"name": "n" * 257},
        "string_above_max_length",
        "name",
        (
            "Invalid 'name': string too long. Expected a string with maximum length 256, but got a string with length "
            "257 instead."
        ),
    ),
    (
        {"metadata": {"k": "x" * 600}},
        "string_above_max_length",
        "metadata.k",
        (
            "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, but got a string with "
            "length 600 instead."
        ),
    ),
    (
        {"model": ""},
        "empty_string",
        "model",
        "Invalid 'model': empty string. Expected a string with minimum length 1, but got an empty string instead.",
    ),
    (
        {"tools": [{"type": "code_interpreter"}] * 129},
        "array_above_max_length",
        "tools",
        (
            "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length "
            "129 instead."
        ),
    ),
    (
        {"temperature": 3},
        "decimal_above_max_value",
        "temperature",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
    ),
    (
        {"top_p": -0.5},
        "decimal_below_min_value",
        "top_p",
        "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.5 instead.",
    ),
    (
        {"tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}]},
        "integer_above_max_value",
        "tools[0].file_search.max_num_results",
        (
            "Invalid 'tools[0].file_search.max_num_results': integer above maximum value. Expected a value <= 50, "
            "but got 51 instead."
        ),
    ),
    (
        {"metadata": {f"k{n}": "v" for n in range(17)}},
        "object_above_max_properties",
        "metadata",
        (
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object "
            "with 17 properties instead."
        ),
    ),
    (
        {"metadata": {LONG_KEY: "v"}},
        "property_name_above_max_length",
        f"metadata.{LONG_KEY}",
        (
            "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string with maximum length 64, "
            "but got a string with length 70 instead."
        ),
    ),
    (
        function(name="a b"),
        "invalid_value",
        "tools[0].function.name",
        (
            "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'."
        ),
    ),
    (
        {"tools": [{"type": "function"}]},
        "missing_required_parameter",
        "tools[0].function",
        "Missing required parameter: 'tools[0].function'.",
    ),
    (
        function(),
        "missing_required_parameter",
        "tools[0].function.name",
        "Missing required parameter: 'tools[0].function.name'.",
    ),
    (
        function(name="f", text=1),
        "unknown_parameter",
        "tools[0].function.text",
        "Unknown parameter: 'tools[0].function.text'.",
    ),
    (
        {"tools": [{"type": "code_interpreter", "function": {}}]},
        "unknown_parameter",
        "tools[0].function",
        "Unknown parameter: 'tools[0].function'.",
    ),
    (
        {"tools": [{}]},
        "missing_required_parameter",
        "tools[0].type",
        "Missing required parameter: 'tools[0].type'.",
    ),
    (
        {"tools": [{"type": "zap"}]},
        "invalid_value",
        "tools[0].type",
        "Invalid value: 'zap'. Supported values are: 'code_interpreter', 'file_search', and 'function'.",
    ),
    (
        {"tools": [{"type": None}]},
        "invalid_type",
        "tools[0].type",
        (
            "Invalid type for 'tools[0].type': expected one of 'code_interpreter', 'file_search', or 'function', "
            "but got null instead."
        ),
    ),
    (
        {"tool_resources": {"file_search": {"vector_stores": [{"metadata": {"k": 1}}]}}},
        "invalid_type",
        "tool_resources.file_search.vector_stores[0].metadata.k",
        (
            "Invalid type for 'tool_resources.file_search.vector_stores[0].metadata.k': expected a string, "
            "but got an integer instead."
        ),
    ),
    (
        {"response_format": "json"},
        "invalid_value",
        "response_format",
        "Invalid value: 'json'. Supported values are: 'auto'.",
    ),
    (
        {"response_format": 5},
        "invalid_type",
        "response_format",
        "Invalid type for 'response_format': expected one of 'auto' or object, but got an integer instead.",
    ),
    (
        {"response_format": {}},
        "missing_required_parameter",
        "response_format.type",
        "Missing required parameter: 'response_format.type'.",
    ),
    (
        {"response_format": {"type": "x"}},
        "invalid_value",
        "response_format.type",
        "Invalid value: 'x'. Supported values are: 'json_schema', 'text', and 'json_object'.",
    ),
    (
        {"response_format": {"type": "json_schema"}},
        "missing_required_parameter",
        "response_format.json_schema",
        "Missing required parameter: 'response_format.json_schema'.",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": []}}},
        "invalid_type",
        "response_format.json_schema.schema",
        "Invalid type for 'response_format.json_schema.schema': expected an object, but got an array instead.",
    ),
    (
        {"response_format": {"type": "text", "json_schema": {}}},
        "unknown_parameter",
        "response_format.json_schema",
        "Unknown parameter: 'response_format.json_schema'.",
    ),
]


@pytest.mark.parametrize(("extra", "code", "param", "message"), ASSISTANT_ROWS)
def test_a_fault_in_an_assistant_is_told_as_openai_did(
    extra: dict[str, object], code: str, param: str, message: str
) -> None:
    error = refusal(AssistantCreate, {"model": "m", **extra})
    assert (error.code, error.param, error.message) == (code, param, message)


MESSAGE_ROWS: list[tuple[dict[str, object], str, str, str]] = [
    (
        {"role": "bogus", "content": "x"},
        "invalid_value",
        "role",
        "Invalid value: 'bogus'. Supported values are: 'user' and 'assistant'.",
    ),
    (
        {"role": 5, "content": "x"},
        "invalid_type",
        "role",
        "Invalid type for 'role': expected one of 'user' or 'assistant', but got an integer instead.",
    ),
    (
        {"role": "user", "content": 5},
        "invalid_type",
        "content",
        "Invalid type for 'content': expected one of a string or array of objects, but got an integer instead.",
    ),
    (
        {"role": "user", "content": "x" * 256_001},
        "string_above_max_length",
        "content",
        (
            "Invalid 'content': string too long. Expected a string with maximum length 256000, but got a string with "
            "length 256001 instead."
        ),
    ),
    (
        content(),
        "empty_array",
        "content",
        "Invalid 'content': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ),
    (
        content({"type": "text"}),
        "missing_required_parameter",
        "content[0].text",
        "Missing required parameter: 'content[0].text'.",
    ),
    (
        content({"type": "text", "text": "a"}, {"type": "text", "text": {"value": "b"}}),
        "invalid_type",
        "content[1].text",
        "Invalid type for 'content[1].text': expected a string, but got an object instead.",
    ),
    (
        content({"type": "image_url", "image_url": {"url": ""}}),
        "empty_string",
        "content[0].image_url.url",
        (
            "Invalid 'content[0].image_url.url': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead."
        ),
    ),
    (
        content({"type": "image_file", "image_file": {"file_id": "f", "detail": "max"}}),
        "invalid_value",
        "content[0].image_file.detail",
        "Invalid value: 'max'. Supported values are: 'auto', 'low', and 'high'.",
    ),
    (
        content("x"),
        "invalid_type",
        "content[0]",
        "Invalid type for 'content[0]': expected an object, but got a string instead.",
    ),
    (
        {"role": "user", "content": "x", "attachments": [{"tools": [{"type": "function"}]}]},
        "invalid_value",
        "attachments[0].tools[0].type",
        "Invalid value: 'function'. Supported values are: 'code_interpreter' and 'file_search'.",
    ),
]


@pytest.mark.parametrize(("body", "code", "param", "message"), MESSAGE_ROWS)
def test_a_fault_in_a_message_is_told_as_openai_did(
    body: dict[str, object], code: str, param: str, message: str
) -> None:
    error = refusal(MessageCreate, body)
    assert (error.code, error.param, error.message) == (code, param, message)


RUN_ROWS: list[tuple[dict[str, object], str, str, str]] = [
    (
        {"tool_choice": "x"},
        "invalid_value",
        "tool_choice",
        "Invalid value: 'x'. Supported values are: 'none', 'auto', and 'required'.",
    ),
    (
        {"tool_choice": 7},
        "invalid_type",
        "tool_choice",
        (
            "Invalid type for 'tool_choice': expected one of one of 'none', 'auto', or 'required' or object, "
            "but got an integer instead."
        ),
    ),
    (
        {"tool_choice": {"type": "function"}},
        "missing_required_parameter",
        "tool_choice.function",
        "Missing required parameter: 'tool_choice.function'.",
    ),
    (
        {"tool_choice": {"type": "function", "function": {}}},
        "missing_required_parameter",
        "tool_choice.function.name",
        "Missing required parameter: 'tool_choice.function.name'.",
    ),
    (
        {"max_prompt_tokens": 255},
        "integer_below_min_value",
        "max_prompt_tokens",
        "Invalid 'max_prompt_tokens': integer below minimum value. Expected a value >= 256, but got 255 instead.",
    ),
    (
        {"max_completion_tokens": 1.5},
        "invalid_type",
        "max_completion_tokens",
        "Invalid type for 'max_completion_tokens': expected an integer, but got a decimal number instead.",
    ),
    (
        {"stream": "yes"},
        "invalid_type",
        "stream",
        "Invalid type for 'stream': expected a boolean, but got a string instead.",
    ),
    (
        {"additional_messages": [content({"type": "text"})]},
        "missing_required_parameter",
        "additional_messages[0].content[0].text",
        "Missing required parameter: 'additional_messages[0].content[0].text'.",
    ),
]


@pytest.mark.parametrize(("extra", "code", "param", "message"), RUN_ROWS)
def test_a_fault_in_a_run_is_told_as_openai_did(
    extra: dict[str, object], code: str, param: str, message: str
) -> None:
    error = refusal(RunCreate, {"assistant_id": "asst_1", **extra})
    assert (error.code, error.param, error.message) == (code, param, message)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"zzz": 1, "tools": [{"type": "function"}]}, "model"),
        ({"zzz": 1, "model": "m", "tools": [{"type": "function"}]}, "tools[0].function"),
        ({"name": 5, "model": "m", "zzz": 1}, "zzz"),
        ({"temperature": 9, "model": "m", "name": 5}, "name"),
    ],
)
def test_missing_comes_first_then_unknown_then_the_order_of_fields(
    body: dict[str, object], param: str
) -> None:
    assert refusal(AssistantCreate, body).param == param


@pytest.mark.parametrize("body", [5, None, [], "x", True])
def test_a_body_that_is_no_object_is_a_wrong_type_without_a_param(body: object) -> None:
    error = refusal(AssistantCreate, body)
    assert (error.code, error.param) == ("invalid_type", None)
    assert error.message.startswith("Invalid type for the request body: expected an object, but")


def test_a_union_of_simple_types_names_them_all() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, str | float | bool]).validate_python({"k": []})
    assert explain(caught.value.errors()).message == (
        "Invalid type for 'k': expected one of a string, decimal, or boolean, but got an array instead."
    )


app = FastAPI()


@app.get("/list")
def list_things(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    include: Annotated[list[int] | None, Query(alias="include[]")] = None,
) -> None:
    """For the places and aliases that FastAPI adds."""


@app.post("/messages")
def create_message(body: MessageCreate) -> None:
    """For bodies that are no JSON or not there."""


@app.exception_handler(RequestValidationError)
async def explained(_: object, error: RequestValidationError) -> Any:
    raise explain(error.errors())


@pytest.mark.parametrize(
    ("query", "code", "param", "message"),
    [
        (
            "limit=abc",
            "invalid_type",
            "limit",
            "Invalid type for 'limit': expected an integer, but got a string instead.",
        ),
        (
            "limit=0",
            "integer_below_min_value",
            "limit",
            "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead.",
        ),
        (
            "limit=101",
            "integer_above_max_value",
            "limit",
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
        ),
        (
            "include[]=x",
            "invalid_type",
            "include[0]",
            "Invalid type for 'include[0]': expected an integer, but got a string instead.",
        ),
    ],
)
def test_a_fault_in_a_query_is_told_without_the_place(
    query: str, code: str, param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TestClient(app).get(f"/list?{query}")
    error = caught.value
    assert (error.code, error.param, error.message) == (code, param, message)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "missing_required_parameter", "Missing required parameter: the request body."),
        (b"{", None, "We could not parse the JSON body of your request. (HINT: "),
    ],
)
def test_a_body_that_fastapi_cannot_read_is_told(body: bytes, code: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TestClient(app).post(
            "/messages", content=body, headers={"content-type": "application/json"}
        )
    assert (caught.value.code, caught.value.param) == (code, None)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("kind", [*get_args(core_schema.ErrorType), "own_code", ""])
def test_every_kind_of_fault_has_a_sentence_even_without_its_details(kind: str) -> None:
    for loc in ((), ("body",), ("body", "tools", 0), ("query", "x"), ("path", "a")):
        assert isinstance(explain([{"type": kind, "loc": loc, "msg": "m"}]), InvalidRequest)


def test_no_fault_at_all_has_a_sentence() -> None:
    assert explain([]).message == "The request is not valid."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
MODELS: list[type[BaseModel]] = [
    AssistantCreate,
    MessageCreate,
    RunCreate,
    ThreadAndRunCreate,
    ThreadCreate,
    SubmitToolOutputs,
]
TYPES = ["function", "code_interpreter", "text", "image_url", "json_schema", "last_messages"]
KEYS = [
    *(field for model in MODELS for field in model.model_fields),
    *("type", "function", "text", "image_url", "json_schema", "schema", "name", "[key]", "str"),
    *("file_search", "code_interpreter", "vector_stores", "list[x]", "query"),
]
BODIES = st.recursive(
    JSON | st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.sampled_from(MODELS), BODIES)
def test_anything_at_all_is_refused_with_a_known_code_and_a_real_path(
    model: type[BaseModel], body: Any
) -> None:
    try:
        model.model_validate(body)
    except ValidationError as caught:
        error = explain(caught.errors())
    else:
        return
    sent = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    keys = {*model.model_fields, *sent}
    assert error.code in CODES
    assert error.param is None or any(error.param.startswith(key) for key in keys)
