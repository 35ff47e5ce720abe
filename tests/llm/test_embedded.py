import json
from typing import Any

import jsonschema_rs
import pytest

from tests.llm.conversation import WEATHER, ask, called, calls, ending, events, said, text, written
from threadloom.llm.chat import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    Function,
    ImagePart,
    NamedTool,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from threadloom.llm.embedded import Conversation, EmbeddedModel, Reply
from threadloom.testing import SequentialIds

MODEL = EmbeddedModel(SequentialIds())
STRING = {"type": "string"}


def declare(name: str, description: str, required: list[str], **properties: Any) -> Function:
    schema = {"type": "object", "properties": properties, "required": required}
    return Function(name, description, schema)


ADD = declare("add", "Add two numbers", ["a", "b"], a={"type": "number"}, b={"type": "number"})
TIME = Function("getTime", "The time of day")
TEMPERATURE = declare(
    "get_current_temperature",
    "Get the current temperature for a specific location",
    ["location", "unit"],
    location=STRING,
    unit={"type": "string", "enum": ["Celsius", "Fahrenheit"]},
)
RAIN = declare(
    "get_rain_probability",
    "Get the probability of rain for a specific location",
    ["location"],
    location=STRING,
)
FLIGHT = declare(
    "book_flight",
    "Book a flight",
    ["origin", "destination", "date", "passengers", "refundable"],
    origin=STRING,
    destination=STRING,
    date={"type": "string", "format": "date"},
    passengers={"type": "integer", "minimum": 1},
    refundable={"type": "boolean"},
)
EMAIL = declare(
    "send_email",
    "Send an email",
    ["to", "subject", "body"],
    to={"type": "string", "format": "email"},
    subject=STRING,
    body={"type": ["string", "null"]},
)
SEARCH = declare(
    "search_products", "Search products", ["query"], query=STRING, limit={"type": "integer"}
)
TOOLS = (WEATHER, ADD, TIME, FLIGHT, EMAIL, SEARCH)


async def arguments(message: str, function: Function) -> dict[str, Any]:
    request = ask(message, tools=(function,), tool_choice=NamedTool(function.name))
    (call,) = await calls(MODEL, request)
    filled = json.loads(call.arguments)
    jsonschema_rs.validate(function.parameters or {}, filled)
    return filled


async def names(message: str, **fields: Any) -> list[str]:
    return [call.name for call in await calls(MODEL, ask(message, **fields))]


def thread(*messages: ChatMessage, **fields: Any) -> ChatRequest:
    return ChatRequest("gpt-4o", messages, **fields)


async def test_it_says_what_it_is_what_it_got_and_how_to_go_on() -> None:
    answer = await text(MODEL, ask("Tell me a joke"))
    assert "demonstration" in answer
    assert "“Tell me a joke”" in answer
    assert "No earlier messages" in answer
    assert "THREADLOOM_UPSTREAM__BASE_URL=" in answer
    assert "THREADLOOM_UPSTREAM__API_KEY=" in answer


async def test_it_says_that_it_sees_no_images() -> None:
    picture = UserMessage((TextPart("Look"), ImagePart("data:image/png;base64,AA")))
    assert "1 image, which I cannot see" in await text(MODEL, thread(picture))


async def test_it_answers_an_empty_conversation() -> None:
    assert "demonstration" in await text(MODEL, thread())


@pytest.mark.parametrize(
    ("question", "quoted"),
    [
        ("What is my name?", "“Hi, I'm Ada.”"),
        ("What did I say before?", "“The invoice number is 42.”"),
        ("What did I say first?", "“Hi, I'm Ada. My favourite colour is green.”"),
        ("What is the invoice number?", "“The invoice number is 42.”"),
        ("what's my favourite colour", "“My favourite colour is green.”"),
    ],
)
async def test_it_quotes_the_history(question: str, quoted: str) -> None:
    history = (
        said("Hi, I'm Ada. My favourite colour is green."),
        AssistantMessage("Hello"),
        said("The invoice number is 42."),
        AssistantMessage("Noted"),
    )
    assert await text(MODEL, thread(*history, said(question))) == f"You wrote earlier: {quoted}"


async def test_a_question_the_history_does_not_answer_counts_what_arrived() -> None:
    request = thread(
        said("I am Ada."), AssistantMessage("Hello"), said("What is the capital of Peru?")
    )
    assert "2 earlier messages" in await text(MODEL, request)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("What's the weather in Paris?", ["get_weather"]),
        ("what time is it?", ["getTime"]),
        ("Please add 3 and 5, and tell me the weather in Rome", ["get_weather", "add"]),
        ("Tell me a joke", []),
        ("hello, how are you?", []),
    ],
)
async def test_it_calls_the_functions_that_match(message: str, expected: list[str]) -> None:
    assert await names(message, tools=TOOLS) == expected


async def test_the_example_of_the_quickstart_calls_both_functions() -> None:
    question = "What's the weather in San Francisco today and the likelihood it'll rain?"
    seen = await calls(MODEL, ask(question, tools=(TEMPERATURE, RAIN)))
    assert [(call.name, call.arguments) for call in seen] == [
        ("get_current_temperature", '{"location":"San Francisco","unit":"Celsius"}'),
        ("get_rain_probability", '{"location":"San Francisco"}'),
    ]


async def test_without_parallel_calls_it_calls_one_after_the_other() -> None:
    question = said("Please add 3 and 5, and tell me the weather in Rome")
    fields: dict[str, Any] = {"tools": TOOLS, "parallel_tool_calls": False}
    (one,) = await calls(MODEL, thread(question, **fields))
    answered = (question, AssistantMessage("", (one,)), ToolMessage(one.id, "sunny"))
    (two,) = await calls(MODEL, thread(*answered, **fields))
    assert (one.name, two.name) == ("get_weather", "add")


async def test_tool_choice_is_obeyed() -> None:
    assert await names("hello", tools=TOOLS, tool_choice="required") == ["get_weather"]
    assert await names("hello", tools=TOOLS, tool_choice=NamedTool("add")) == ["add"]
    assert await names("Weather in Paris?", tools=TOOLS, tool_choice="none") == []


@pytest.mark.parametrize("choice", ["auto", "required", NamedTool("get_weather")])
async def test_it_quotes_what_the_tools_returned(choice: Any) -> None:
    call = ToolCall("call_1", "get_weather", "{}")
    turn = (said("Weather in Paris?"), AssistantMessage("", (call,)), ToolMessage("call_1", "22°"))
    answer = await text(MODEL, thread(*turn, tools=TOOLS, tool_choice=choice))
    assert answer == "get_weather returned: “22°”"


async def test_a_new_question_calls_again() -> None:
    call = ToolCall("call_1", "get_weather", "{}")
    turn = (said("Weather in Paris?"), AssistantMessage("", (call,)), ToolMessage("call_1", "22°"))
    request = thread(*turn, AssistantMessage("22°"), said("And the weather in Rome?"), tools=TOOLS)
    assert [found.arguments for found in await calls(MODEL, request)] == ['{"city":"Rome"}']


@pytest.mark.parametrize(
    ("message", "function", "expected"),
    [
        ("weather in paris", WEATHER, {"city": "paris"}),
        ("Weather in New York in Celsius", WEATHER, {"city": "New York", "unit": "celsius"}),
        ('Weather for "Bad Homburg"', WEATHER, {"city": "Bad Homburg"}),
        ("city: Oslo, unit: fahrenheit", WEATHER, {"city": "Oslo", "unit": "fahrenheit"}),
        ("what is 2.5 plus -3?", ADD, {"a": 2.5, "b": -3}),
        ("b is 7 and a is 4", ADD, {"a": 4, "b": 7}),
        ("nothing to count", ADD, {"a": 0, "b": 0}),
        (
            "Book a refundable flight from New York to Rio de Janeiro on 2026-12-24 for two passengers",
            FLIGHT,
            {
                "origin": "New York",
                "destination": "Rio de Janeiro",
                "date": "2026-12-24",
                "passengers": 2,
                "refundable": True,
            },
        ),
        (
            'Send an email to ada@example.com with the subject "Hello there"',
            EMAIL,
            {"to": "ada@example.com", "subject": "Hello there", "body": None},
        ),
        ("search for red running shoes", SEARCH, {"query": "red running shoes"}),
        ("search for tea, limit 5", SEARCH, {"query": "tea, limit 5", "limit": 5}),
    ],
)
async def test_arguments_come_from_the_message(
    message: str, function: Function, expected: dict[str, Any]
) -> None:
    assert await arguments(message, function) == expected


LIGHTS = declare(
    "set_lights",
    "Control lights",
    ["on"],
    on={"type": "boolean"},
    rooms={"type": "array", "items": {"type": "string", "enum": ["kitchen", "hall", "attic"]}},
    levels={"type": "array", "items": {"type": "number"}, "maxItems": 2},
    brightness={"type": "integer", "exclusiveMinimum": 0, "maximum": 100},
    dimmed={"type": "boolean"},
    code={"type": "string", "pattern": "^[A-Z]{2}\\d+$"},
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Lights on in the kitchen and the hall", {"on": True, "rooms": ["kitchen", "hall"]}),
        ("Lights not on, please", {"on": False}),
        ("brightness 40", {"on": False, "brightness": 40}),
        ("brightness = 400", {"on": False, "brightness": 100}),
        ("Use AB12 dimmed", {"on": False, "dimmed": True, "code": "AB12"}),
        ("levels 10 and 20", {"on": False, "levels": [10, 20]}),
    ],
)
async def test_optional_arguments_need_a_clear_match(
    message: str, expected: dict[str, Any]
) -> None:
    assert await arguments(message, LIGHTS) == expected


ODD_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object"},
    {"type": "object", "required": ["x"]},
    {"type": "object", "properties": {"x": {}}, "required": ["x"]},
    {"type": "object", "properties": {"x": {"const": 7}}, "required": ["x"]},
    {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"]},
    {"type": "object", "properties": {"x": {"enum": [1, None, "a"]}}, "required": ["x"]},
    {"type": "object", "properties": {"x": {"type": ["null", "integer"]}}, "required": ["x"]},
    {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/p"}]}},
        "required": ["x"],
        "$defs": {"p": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}},
    },
    {
        "type": "object",
        "properties": {"x": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
        "required": ["x"],
    },
    {
        "type": "object",
        "properties": {
            "x": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}
        },
        "required": ["x"],
    },
    {
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 10, "maximum": 20}},
        "required": ["x"],
    },
    {
        "type": "object",
        "properties": {"x": {"type": "string", "minLength": 90, "maxLength": 100}},
        "required": ["x"],
    },
    {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "number"}}}},
    {"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"c": {"$ref": "#/$defs/t"}}}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", ODD_SCHEMAS)
async def test_arguments_are_valid_for_any_schema(schema: dict[str, Any]) -> None:
    await arguments("Tell Ada about 3 things and 'this'", Function("f", None, schema))


async def test_a_schema_as_response_format_is_filled() -> None:
    schema = {
        "type": "object",
        "properties": {"city": STRING, "days": {"type": "integer"}},
        "required": ["city", "days"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema}}
    answer = await text(MODEL, ask("Four days in Lisbon", response_format=wanted))
    assert json.loads(answer) == {"city": "Lisbon", "days": 4}


async def test_a_json_object_as_response_format_is_written() -> None:
    answer = await text(MODEL, ask("As JSON please", response_format={"type": "json_object"}))
    assert json.loads(answer)["received"] == "As JSON please"


async def test_the_limit_of_tokens_is_kept() -> None:
    seen = await events(MODEL, ask("Tell me a joke", max_completion_tokens=5))
    assert ending(seen).reason == "length"
    assert written(seen) == "I am Threadloom's"
    assert ending(seen).usage is not None


async def test_the_limit_of_tokens_cuts_arguments_too() -> None:
    seen = await events(MODEL, ask("Weather in Paris", tools=TOOLS, max_completion_tokens=1))
    assert (ending(seen).reason, called(seen)[0].arguments) == ("length", '{"')


async def test_the_same_request_gets_the_same_answer() -> None:
    request = ask("What's the weather in Paris?", tools=TOOLS)
    fresh = [EmbeddedModel(SequentialIds()) for _ in range(2)]
    assert await events(fresh[0], request) == await events(fresh[1], request)


async def test_rules_can_be_added() -> None:
    def greet(conversation: Conversation) -> Reply | None:
        return Reply("Hello!") if conversation.text == "Hi" else None

    model = EmbeddedModel(SequentialIds(), rules=(greet,))
    assert await text(model, ask("Hi")) == "Hello!"
    assert "demonstration" in await text(model, ask("Bye"))
