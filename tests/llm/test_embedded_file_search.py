"""The embedded model searches files for a question, and quotes what answers it, or says that nothing does."""

import json
from collections.abc import Mapping

import pytest

from tests.llm.conversation import WEATHER, ask, calls, said, text
from tests.llm.documents import (
    ALSO_ANSWERED,
    ALSO_UNANSWERED,
    ANSWERED,
    DOCUMENTS,
    UNANSWERED,
)
from threadloom.llm.chat import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    Function,
    NamedTool,
    ToolCall,
    ToolChoice,
    ToolMessage,
)
from threadloom.llm.embedded import EmbeddedModel
from threadloom.llm.quoting import NOTHING, Question, answer
from threadloom.testing import SequentialIds
from threadloom.types.citations import fence

MODEL = EmbeddedModel(SequentialIds())
SEARCH = Function("file_search", "Searches the files.", {"type": "object", "properties": {}})
CALL = ToolCall("call_1", "file_search", "{}")
WEATHER_CALL = ToolCall("call_2", "get_weather", "{}")

EARLIER = "How long is the warranty of the lamp?"


def passages(documents: Mapping[str, tuple[str, str]] = DOCUMENTS) -> str:
    """The documents as a model hears them."""
    return "\n\n".join(
        fence(f"【0:{index}†{name}】", content, page=None, heading=heading)
        for index, (name, (heading, content)) in enumerate(documents.items())
    )


async def queries(
    *messages: ChatMessage, choice: ToolChoice = "auto", tools: tuple[Function, ...] = (SEARCH,)
) -> list[str] | None:
    """What the model searches for; None when it does not."""
    request = ChatRequest("gpt-4o", messages, tools=tools, tool_choice=choice)
    found = [call for call in await calls(MODEL, request) if call.name == "file_search"]
    return json.loads(found[0].arguments)["queries"] if found else None


async def answered(question: str, heard: str) -> str:
    messages = (said(question), AssistantMessage("", (CALL,)), ToolMessage("call_1", heard))
    return await text(MODEL, ChatRequest("gpt-4o", messages, tools=(SEARCH,)))


@pytest.mark.parametrize(
    "question",
    [
        "How long is the warranty?",
        "warranty period lamp",
        "Summarise the chapter on engines.",
        "I want to know how long the warranty is",
        "Hi! What does the contract say about notice?",
        "\u4fdd\u4fee\u671f\u662f\u591a\u4e45\uff1f",
    ],
)
async def test_it_searches_for_a_question(question: str) -> None:
    assert await queries(said(question)) == [question]


@pytest.mark.parametrize(
    "message",
    [
        "Hi!",
        "Hello there, good morning",
        "Thanks, great",
        "How are you doing today?",
        "Tell me a joke",
        "I live in Lyon.",
        "My name is Ada.",
        "What is my name?",
        "What did I say before?",
        "",
    ],
)
async def test_it_does_not_search_for_small_talk(message: str) -> None:
    assert await queries(said(message)) is None


async def test_it_searches_once_for_a_question() -> None:
    messages = (said("How long?"), AssistantMessage("", (CALL,)), ToolMessage("call_1", "None."))
    assert await queries(*messages) is None


async def test_it_searches_when_it_must_and_not_when_it_must_not() -> None:
    assert await queries(said("Hi!"), choice=NamedTool("file_search")) == ["Hi!"]
    assert await queries(said("Hi!"), choice="required") == ["Hi!"]
    assert await queries(said("How long is the warranty?"), choice="none") is None


async def test_a_function_that_clearly_matches_comes_first() -> None:
    tools = (SEARCH, WEATHER)
    weather = ask("What is the current weather of the city of Paris?", tools=tools)
    assert [call.name for call in await calls(MODEL, weather)] == ["get_weather"]
    assert await queries(said("How long is the warranty?"), tools=tools) is not None
    forced = NamedTool("get_weather")
    assert await queries(said("How long is the warranty?"), tools=tools, choice=forced) is None


async def test_it_does_not_search_without_the_tool() -> None:
    assert await queries(said("How long is the warranty?"), tools=()) is None


@pytest.mark.parametrize(
    ("question", "searched"),
    [
        ("And how heavy is it?", [f"{EARLIER} And how heavy is it?"]),
        ("Why?", [f"{EARLIER} Why?"]),
        ("Batteries?", ["Batteries?", f"{EARLIER} Batteries?"]),
        ("And what about roses?", ["And what about roses?", f"{EARLIER} And what about roses?"]),
        (
            "Do owls leave their nests?",
            [f"{EARLIER} Do owls leave their nests?", "Do owls leave their nests?"],
        ),
        ("Who built the lighthouse of Cape Marrow?", ["Who built the lighthouse of Cape Marrow?"]),
    ],
)
async def test_a_question_that_may_lean_on_the_one_before_takes_it_along(
    question: str, searched: list[str]
) -> None:
    history = (said("Hello"), said(EARLIER), AssistantMessage("24 months"))
    assert await queries(*history, said(question)) == searched
    assert Question.of(question, []).readings == [Question(question)]


GARDEN = {
    "leave.txt": (
        "Rules for employees and roses",
        "Employees have 28 days of vacation each year. The days are written down.",
    ),
    "garden.txt": (
        "",
        "Roses need six hours of sun. Owls leave the barn at night. The market opens on Tuesdays.",
    ),
}


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("And what about roses?", "Roses need six hours of sun."),
        ("owls", "Owls leave the barn at night."),
        ("When does the market open?", "The market opens on Tuesdays."),
        ("unicorns", NOTHING),
        ("And who designed it?", NOTHING),
    ],
)
async def test_a_new_subject_is_not_answered_with_the_one_before(question: str, fact: str) -> None:
    history = (said("How many days of vacation do employees have?"), AssistantMessage("28"))
    heard = ToolMessage("call_1", passages(GARDEN))
    asked = (said(question), AssistantMessage("", (CALL,)), heard)
    found = await text(MODEL, ChatRequest("gpt-4o", (*history, *asked), tools=(SEARCH,)))
    assert found.startswith(fact)
    assert "28 days" not in found


async def test_of_equal_answers_that_of_the_subject_before_is_quoted() -> None:
    history = (said("How long is the warranty of the lamp?"), AssistantMessage("24 months"))
    documents = {
        "a.txt": ("", "The radio needs four batteries."),
        "b.txt": ("", "The warranty of the lamp does not cover batteries."),
    }
    heard = ToolMessage("call_1", passages(documents))
    asked = (said("What about batteries?"), AssistantMessage("", (CALL,)), heard)
    found = await text(MODEL, ChatRequest("gpt-4o", (*history, *asked), tools=(SEARCH,)))
    assert found == "The warranty of the lamp does not cover batteries.【0:1†b.txt】"


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("And how heavy is it?", "1.4 kilograms"),
        ("What about batteries?", "not covered"),
        ("And who designed it?", NOTHING),
        ("Why?", "24 months"),
    ],
)
async def test_what_answers_has_something_of_the_newest_question(question: str, fact: str) -> None:
    history = (said("How long is the warranty of the Aurora lamp?"), AssistantMessage("24 months"))
    asked = (said(question), AssistantMessage("", (CALL,)), ToolMessage("call_1", passages()))
    assert fact in await text(MODEL, ChatRequest("gpt-4o", (*history, *asked), tools=(SEARCH,)))


async def test_it_quotes_the_sentence_that_answers_with_its_marker() -> None:
    assert await answered("How long is the warranty of the lamp?", passages()) == (
        "The Aurora lamp comes with a warranty of 24 months from the date of purchase.【0:0†lamp.md】"
    )


async def test_it_quotes_up_to_three_sentences() -> None:
    documents = {f"{n}.txt": ("", f"Plan {n} costs {n} euros per month.") for n in range(5)}
    found = await answered("What do the plans cost per month?", passages(documents))
    assert found == " ".join(
        f"Plan {n} costs {n} euros per month.【0:{n}†{n}.txt】" for n in range(3)
    )


async def test_the_same_sentence_is_quoted_once() -> None:
    documents = {
        "a.txt": ("", "The plan costs 10 euros."),
        "b.txt": ("", "The plan costs 10 euros."),
    }
    found = await answered("What does the plan cost?", passages(documents))
    assert found == "The plan costs 10 euros.【0:0†a.txt】"


async def test_it_says_that_the_documents_do_not_answer() -> None:
    question = "What is the capital of Peru?"
    assert await answered(question, passages()) == f"{NOTHING}“{question}”"
    assert await answered(question, "No passage matches.") == f"{NOTHING}“{question}”"


async def test_it_quotes_scripts_without_spaces() -> None:
    documents = {
        "a.txt": ("", "公司成立于1998年。员工人数超过三千人。"),
    }
    found = await answered("公司成立于哪年\uff1f", passages(documents))
    assert found == "公司成立于1998年。【0:0†a.txt】"


async def test_it_adds_what_other_functions_returned() -> None:
    messages = (
        said("How long is the warranty of the lamp, and how is the weather?"),
        AssistantMessage("", (CALL, WEATHER_CALL)),
        ToolMessage("call_1", "Nothing."),
        ToolMessage("call_2", "sunny"),
    )
    found = await text(MODEL, ChatRequest("gpt-4o", messages, tools=(SEARCH, WEATHER)))
    assert found.startswith(NOTHING)
    assert found.endswith("\nget_weather returned: “sunny”")


async def test_a_json_object_holds_what_answers() -> None:
    messages = (
        said("How long is the warranty of the lamp?"),
        AssistantMessage("", (CALL,)),
        ToolMessage("call_1", passages()),
    )
    wanted = {"type": "json_object"}
    request = ChatRequest("gpt-4o", messages, tools=(SEARCH,), response_format=wanted)
    received = json.loads(await text(MODEL, request))["received"]
    assert "24 months" in received
    assert "<passage" not in received


def kept(questions: Mapping[str, str]) -> int:
    """How many answers have the fact that they should."""
    heard = passages()
    found = (
        (" ".join(answer(Question(one), [heard]).split()), fact) for one, fact in questions.items()
    )
    return sum(fact in text for text, fact in found)


def refused(questions: list[str]) -> int:
    heard = passages()
    return sum(answer(Question(one), [heard]).startswith(NOTHING) for one in questions)


def test_it_keeps_most_answers_and_refuses_most_questions_without_one() -> None:
    assert (kept(ANSWERED), len(ANSWERED)) == (19, 20)
    assert (refused(UNANSWERED), len(UNANSWERED)) == (19, 20)


def test_it_does_so_for_questions_it_was_not_fitted_to() -> None:
    assert (kept(ALSO_ANSWERED), len(ALSO_ANSWERED)) == (11, 12)
    assert (refused(ALSO_UNANSWERED), len(ALSO_UNANSWERED)) == (12, 12)
