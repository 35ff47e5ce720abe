"""The checkers themselves: what OpenAI sent passes, and each rule has a stream or body that breaks it."""

import copy
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from tests.contract.document import Document, check_order, read

Json = dict[str, Any]
Event = tuple[str, Any]

DOCUMENT = Document.load()
STEP_TIMES = ("cancelled_at", "completed_at", "expired_at", "failed_at")
USAGE: Json = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALL: Json = {"id": "call_1", "type": "function"}
ERROR: Json = {"message": "m", "type": "server_error", "param": None, "code": None}


def run(status: str = "queued", **given: Any) -> Json:
    return {
        "id": "run_1",
        "object": "thread.run",
        "created_at": 1761861679,
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
        "status": status,
        "started_at": None,
        "expires_at": 1761862279,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": 16,
        "max_prompt_tokens": None,
        "usage": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        **given,
    }


def step(status: str, details: Json, number: int = 1) -> Json:
    return {
        "id": f"step_{number}",
        "object": "thread.run.step",
        "created_at": 1761861680,
        "run_id": "run_1",
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
        "type": details["type"],
        "status": status,
        "last_error": None,
        "expires_at": None,
        **dict.fromkeys(STEP_TIMES),
        "metadata": {},
        "step_details": details,
        "usage": None if status == "in_progress" else USAGE,
    }


def message(status: str, *content: Json, number: int = 1) -> Json:
    return {
        "id": f"msg_{number}",
        "object": "thread.message",
        "created_at": 1761861680,
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
        "run_id": "run_1",
        "status": status,
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": None,
        "role": "assistant",
        "content": list(content),
        "attachments": [],
        "metadata": {},
    }


def text(value: str, *annotations: Json) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


def message_delta(*content: Any, number: int = 1) -> Event:
    data = {"id": f"msg_{number}", "object": "thread.message.delta", "delta": {"content": content}}
    return "thread.message.delta", {**data, "delta": {"content": list(content)}}


def step_delta(*calls: Any, number: int = 1) -> Event:
    details = {"type": "tool_calls", "tool_calls": list(calls)}
    data = {"id": f"step_{number}", "object": "thread.run.step.delta"}
    return "thread.run.step.delta", {**data, "delta": {"step_details": details}}


def piece(value: str, **given: Any) -> Json:
    return {"index": 0, "type": "text", "text": {"value": value, **given}}


def writes(number: int) -> Json:
    return {"type": "message_creation", "message_creation": {"message_id": f"msg_{number}"}}


def calls(*given: Json) -> Json:
    return {"type": "tool_calls", "tool_calls": list(given)}


def function(arguments: str, output: str | None = None) -> Json:
    return {**CALL, "function": {"name": "f", "arguments": arguments, "output": output}}


BEGINNING: list[Event] = [
    ("thread.run.created", run()),
    ("thread.run.queued", run()),
    ("thread.run.in_progress", run("in_progress")),
]
END: list[Event] = [
    ("thread.run.completed", run("completed", usage=USAGE, expires_at=None)),
    ("done", "[DONE]"),
]


def step_opened(details: Json, number: int = 1) -> list[Event]:
    data = step("in_progress", details, number)
    return [("thread.run.step.created", data), ("thread.run.step.in_progress", data)]


def step_closed(details: Json, number: int = 1, status: str = "completed") -> Event:
    return f"thread.run.step.{status}", step(status, details, number)


def message_opened(number: int = 1) -> list[Event]:
    data = message("in_progress", number=number)
    return [("thread.message.created", data), ("thread.message.in_progress", data)]


def message_closed(*content: Json, number: int = 1, status: str = "completed") -> Event:
    return f"thread.message.{status}", message(status, *content, number=number)


def written(number: int = 1) -> list[Event]:
    return [
        *step_opened(writes(number), number),
        *message_opened(number),
        message_delta(piece("Hel", annotations=[]), number=number),
        message_delta(piece("lo"), number=number),
        message_closed(text("Hello"), number=number),
        step_closed(writes(number), number),
    ]


def called() -> list[Event]:
    return [
        *step_opened(calls()),
        step_delta({"index": 0, **function("")}),
        step_delta({"index": 0, "type": "function", "function": {"arguments": '{"a"'}}),
        step_delta({"index": 0, "type": "function", "function": {"arguments": ":1}"}}),
    ]


F = {"type": "function", "function": {"name": "f"}}


def action(arguments: str = '{"a":1}') -> list[Event]:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    required = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    return [
        ("thread.run.requires_action", run("requires_action", required_action=required, tools=[F])),
        ("done", "[DONE]"),
    ]


def ended(status: str) -> list[Event]:
    return [(f"thread.run.{status}", run(status)), ("done", "[DONE]")]


THREAD: Event = (
    "thread.created",
    {"id": "t", "object": "thread", "created_at": 1, "metadata": {}, "tool_resources": {}},
)
TEXT = [*BEGINNING, *written(), *END]
FUNCTIONS = [*BEGINNING, *called(), *action()]
SUBMITTED = [
    step_closed(calls(function('{"a":1}', "1")), 9),
    ("thread.run.queued", run("queued")),
    ("thread.run.in_progress", run("in_progress")),
    *written(),
    *END,
]
FOUND: Json = {
    "id": "call_2",
    "type": "file_search",
    "file_search": {
        "ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.0},
        "results": [{"file_id": "file-1", "file_name": "a.txt", "score": 0.5}],
    },
}
SEARCHING: Json = {**FOUND, "file_search": {"results": []}, "index": 0}
CITATION: Json = {
    "type": "file_citation",
    "text": "[1]",
    "start_index": 5,
    "end_index": 8,
    "file_citation": {"file_id": "file-1"},
}
CITING: Json = {**CITATION, "index": 0, "file_citation": {"file_id": "file-1", "quote": ""}}
SEARCHED = [
    *BEGINNING,
    *step_opened(calls()),
    step_delta(SEARCHING),
    step_closed(calls(FOUND)),
    *written(2)[:-3],
    message_delta(piece("lo[1]", annotations=[CITING]), number=2),
    message_closed(text("Hello[1]", CITATION), number=2),
    step_closed(writes(2), 2),
    *END,
]
RAN: Json = {
    "id": "call_3",
    "type": "code_interpreter",
    "code_interpreter": {"input": "1+1", "outputs": [{"type": "logs", "logs": "2"}]},
}


def running(**given: Any) -> Event:
    return step_delta({"index": 0, "type": "code_interpreter", "code_interpreter": given})


INTERPRETED = [
    *BEGINNING,
    *step_opened(calls()),
    step_delta({**RAN, "index": 0, "code_interpreter": {"input": "", "outputs": []}}),
    running(input="1+"),
    running(input="1"),
    running(outputs=[{"index": 0, "type": "logs", "logs": "2"}]),
    step_closed(calls(RAN)),
    *written(2),
    *END,
]
CUT = [*BEGINNING, *step_opened(writes(1)), *message_opened(), message_delta(piece("Hel"))]
CUT_MESSAGE = message_closed(text("Hel"), status="incomplete")
GOOD = {
    "text": TEXT,
    "thread first": [THREAD, *TEXT],
    "two messages": [*BEGINNING, *written(1), *written(2), *END],
    "functions": FUNCTIONS,
    "text before functions": [*BEGINNING, *written(7), *called(), *action()],
    "submitted outputs": SUBMITTED,
    "file search": SEARCHED,
    "code interpreter": INTERPRETED,
    "an empty answer": [
        *BEGINNING,
        *(*step_opened(writes(1)), *message_opened()),
        *(message_closed(text("")), step_closed(writes(1))),
        *END,
    ],
    "cancelled": [
        *CUT,
        ("thread.run.cancelling", run("cancelling")),
        *(CUT_MESSAGE, step_closed(writes(1), status="cancelled")),
        *ended("cancelled"),
    ],
    "cancelled while queued": [
        *BEGINNING[:2],
        ("thread.run.cancelling", run("cancelling")),
        *ended("cancelled"),
    ],
    "failed": [*CUT, CUT_MESSAGE, step_closed(writes(1), status="failed"), *ended("failed")],
    "expired": [*BEGINNING, *called(), step_closed(calls(), status="expired"), *ended("expired")],
    "incomplete": [*CUT, CUT_MESSAGE, step_closed(writes(1)), *ended("incomplete")],
    "calls cut": [*BEGINNING, *called(), step_closed(calls()), *ended("incomplete")],
    "a lost worker": [
        *CUT,
        *(CUT_MESSAGE, step_closed(writes(1), status="failed")),
        *written(2),
        *END,
    ],
    "broken off": [*CUT, ("error", {"error": ERROR})],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_stream_keeps_every_rule(name: str) -> None:
    check_order(GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_the_events_of_a_good_stream_are_as_openai_says(name: str) -> None:
    for event, data in GOOD[name]:
        DOCUMENT.check_event(event, data)


def without(events: list[Event], *places: int) -> list[Event]:
    return [event for at, event in enumerate(events) if at not in places]


def changed(events: list[Event], place: int, change: Callable[[Any], object]) -> list[Event]:
    """A copy where the event at `place` is different."""
    copied = copy.deepcopy(events)
    change(copied[place][1])
    return copied


def moved(events: list[Event], start: int, to: int) -> list[Event]:
    rest = without(events, start)
    return [*rest[:to], events[start], *rest[to:]]


def without_key(body: Json, key: str) -> Json:
    return {name: value for name, value in body.items() if name != key}


def required_calls(run: Json) -> list[Json]:
    return run["required_action"]["submit_tool_outputs"]["tool_calls"]


def second_call(index: int) -> Event:
    return step_delta({"index": index, **function("{}"), "id": "call_2"})


# In TEXT: 0-2 the run, 3-4 the step, 5-6 the message, 7-8 deltas, 9-10 the ends, 11 the run's, 12 done.
# In FUNCTIONS: 3-4 the step, 5-7 deltas, 8 requires_action, 9 done.
BAD: list[tuple[str, list[Event]]] = [
    ("a stream ends with done", TEXT[:-1]),
    ("a stream ends with done", []),
    ("nothing follows done or error", [*TEXT, *END]),
    ("nothing follows done or error", [("error", {"error": ERROR}), END[1]]),
    ("done comes after the end of the run", without(TEXT, 11)),
    ("expected done", [*TEXT[:-1], *END]),
    ("expected thread.created or", TEXT[1:]),
    ("expected thread.run.created", [THREAD, *TEXT[1:]]),
    ("a thread is created first", [*TEXT[:3], THREAD, *TEXT[3:]]),
    ("expected thread.run.queued", without(TEXT, 1)),
    ("steps begin while the run is in_progress", without(TEXT, 2)),
    ("a run that is in_progress", [*TEXT[:3], TEXT[1], *TEXT[3:]]),
    ("a run that is in_progress", [*TEXT[:3], TEXT[2], *TEXT[3:]]),
    ("the run's status is in_progress", changed(TEXT, 2, lambda run: run.update(status="queued"))),
    ("all events are of one run", changed(TEXT, 2, lambda run: run.update(id="run_2"))),
    ("all events are of one run", changed(TEXT, 4, lambda step: step.update(run_id="run_2"))),
    ("all events are of one run", changed(TEXT, 5, lambda message: message.update(run_id=None))),
    ("expected thread.run.step.in_progress", without(TEXT, 4)),
    ("in_progress follows created at once", [*TEXT[:7], TEXT[4], *TEXT[7:]]),
    ("the step's status", changed(TEXT, 3, lambda step: step.update(status="completed"))),
    ("this step is not open", without(TEXT, 3, 4, 5, 6, 7, 8, 9)),
    ("one step at a time", [*TEXT[:5], *step_opened(calls(), 2), *TEXT[5:]]),
    ("this step is not open", [*TEXT[:10], step_closed(writes(1), 2), *TEXT[11:]]),
    ("an id is created once", [*TEXT[:11], *written(), *END]),
    ("a tool step begins without calls", [*BEGINNING, *step_opened(calls(function("")))]),
    ("steps are closed before the run", without(TEXT, 10)),
    ("messages are closed before the run", without(TEXT, 9, 10)),
    ("the message is closed before its step", without(TEXT, 9)),
    ("the step's message was written", without(TEXT, 5, 6, 7, 8, 9)),
    ("a completed step has its usage", changed(TEXT, 10, lambda step: step.update(usage=None))),
    ("a completed run has its usage", changed(TEXT, 11, lambda run: run.update(usage=None))),
    ("a completed run does not expire", changed(TEXT, 11, lambda run: run.update(expires_at=1))),
    ("expected thread.message.in_progress", without(TEXT, 6)),
    ("the message's status", changed(TEXT, 9, lambda one: one.update(status="in_progress"))),
    ("a message is written in the step that names it", without(TEXT, 3, 4)),
    ("a message is written in the step", changed(TEXT, 5, lambda one: one.update(id="msg_2"))),
    ("a message begins empty", changed(TEXT, 5, lambda one: one["content"].append(text("")))),
    ("one message at a time", [*TEXT[:7], *message_opened(2), *TEXT[7:]]),
    ("this message is not open", moved(TEXT, 7, 5)),
    ("this message is not open", [*TEXT[:10], TEXT[8], *TEXT[10:]]),
    ("this message is not open", [*TEXT[:7], message_delta(piece("x"), number=2), *TEXT[7:]]),
    ("there is no such event", [*TEXT[:3], ("thread.message.expired.x", {}), *TEXT[3:]]),
    ("there is no such event", [*TEXT[:3], ("response.created", {}), *TEXT[3:]]),
    ("the deltas add up to something else", without(TEXT, 8)),
    ("the deltas add up to something else", without(TEXT, 7, 8)),
    ("lost an entry", changed(TEXT, 9, lambda one: one["content"].clear())),
    ("was never streamed", changed(TEXT, 9, lambda one: one["content"].append(text("more")))),
    ("add up to something else", [*CUT, message_closed(text("H"), status="incomplete")]),
    ("an integer index", [*TEXT[:7], message_delta(text("Hel")), *TEXT[8:]]),
    ("an integer index", [*TEXT[:7], message_delta({**piece("x"), "index": "0"}), *TEXT[8:]]),
    ("an integer index", [*TEXT[:7], message_delta({**piece("x"), "index": True}), *TEXT[8:]]),
    ("an integer index", [*TEXT[:7], message_delta("Hel"), *TEXT[8:]]),
    ("an integer index", [*TEXT[:7], message_delta(piece("x", annotations=[CITATION]))]),
    ("an integer index", [*INTERPRETED[:6], running(outputs=[{"type": "logs", "logs": "2"}])]),
    ("a new entry has the next index", [*TEXT[:7], message_delta({**piece("x"), "index": 1})]),
    ("a new entry has the next index", [*FUNCTIONS[:5], second_call(1)]),
    ("the type of an entry stays", [*TEXT[:8], message_delta({"index": 0, "type": "refusal"})]),
    (
        "the first delta of a text has a value",
        [*TEXT[:7], message_delta({"index": 0, "type": "text"})],
    ),
    (
        "is sent once",
        [*SEARCHED[:-4], message_delta(piece("", annotations=[CITING]), number=2)],
    ),
    ("id is sent once", [*FUNCTIONS[:6], *FUNCTIONS[5:]]),
    (
        "name is sent once",
        [*FUNCTIONS[:6], step_delta({"index": 0, "type": "function", "function": {"name": "f"}})],
    ),
    (
        "output is sent once",
        [
            *FUNCTIONS[:6],
            step_delta({"index": 0, "type": "function", "function": {"output": None}}),
        ],
    ),
    (
        "a delta has no id of its own",
        changed(FUNCTIONS, 5, lambda one: one["delta"].update(id="s")),
    ),
    ("only tool steps have deltas", [*TEXT[:5], step_delta({"index": 0, **function("")})]),
    ("this step is not open", [*FUNCTIONS[:5], step_delta({"index": 0}, number=2)]),
    ("the tool step stays open", [*TEXT[:11], *action()]),
    (
        "the tool step stays open",
        [*BEGINNING, *called(), step_closed(calls(function('{"a":1}'))), *action()],
    ),
    ("there is a call to answer", changed(FUNCTIONS, 8, lambda run: required_calls(run).clear())),
    ("was never streamed", changed(FUNCTIONS, 8, lambda run: required_calls(run).append(CALL))),
    ("add up to something else", [*BEGINNING, *called(), *action("{}")]),
    ("lost an entry", [*FUNCTIONS[:8], second_call(1), *FUNCTIONS[8:]]),
    ("lost an entry", [*FUNCTIONS[:8], step_closed(calls()), *written(2), *END]),
    ("add up to something else", without(INTERPRETED, 6)),
    ("never streamed", without(INTERPRETED, 8)),
    ("the outputs are filled in", [step_closed(calls(function("{}")), 9), *SUBMITTED[1:]]),
    ("the step has calls of functions", [step_closed(writes(9), 9), *SUBMITTED[1:]]),
    ("expected thread.run.queued", without(SUBMITTED, 1)),
    ("a run that is queued", [*SUBMITTED[:2], *SUBMITTED[1:]]),
]


@pytest.mark.parametrize(("rule", "events"), BAD)
def test_a_stream_that_breaks_a_rule_is_caught(rule: str, events: list[Event]) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_order(events)


ASSISTANT: Json = {
    "id": "asst_1",
    "object": "assistant",
    "created_at": 1698982736,
    "name": None,
    "description": None,
    "model": "gpt-4o",
    "instructions": None,
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "top_p": 1.0,
    "temperature": 1.0,
    "response_format": "auto",
    "reasoning_effort": None,
}
FILE: Json = {
    "object": "file",
    "id": "file-1",
    "purpose": "assistants",
    "filename": "a.txt",
    "bytes": 1,
    "created_at": 1,
    "expires_at": None,
    "status": "processed",
    "status_details": None,
}
COUNTS = dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), 0)
STORE: Json = {
    "id": "vs_1",
    "object": "vector_store",
    "created_at": 1,
    "name": None,
    "description": None,
    "usage_bytes": 0,
    "file_counts": COUNTS,
    "status": "completed",
    "expires_after": None,
    "expires_at": None,
    "last_active_at": 1,
    "metadata": {},
}
BATCH: Json = {
    "id": "vsfb_1",
    "object": "vector_store.file_batch",
    "created_at": 1,
    "vector_store_id": "vs_1",
    "status": "completed",
    "file_counts": COUNTS,
}


def page(*items: Json, **given: Any) -> Json:
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    return {
        "object": "list",
        "data": list(items),
        "first_id": None,
        "last_id": None,
        "has_more": False,
        **ends,
        **given,
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/assistants", ASSISTANT),
        ("GET", "/v1/assistants?limit=2", page(ASSISTANT, {**ASSISTANT, "id": "asst_2"})),
        ("GET", "/openai/v1/assistants", page()),
        ("GET", "/openai/assistants/asst_1?api-version=v1", ASSISTANT),
        ("DELETE", "/v1/threads/t", {"id": "t", "object": "thread.deleted", "deleted": True}),
        ("POST", "/v1/threads", THREAD[1]),
        ("POST", "/v1/threads/runs", run()),
        ("POST", "/v1/threads/t/runs", run(tool_resources={"x": {}}, reasoning_effort="low")),
        ("POST", "/v1/threads/t/runs", run(truncation_strategy=None, response_format=None)),
        ("GET", "/v1/threads/t/messages/m", message("completed", text("Hi", CITATION))),
        ("GET", "/v1/threads/t/runs/r/steps", page(step("completed", calls(FOUND, RAN)))),
        ("GET", "/v1/models/m", {"id": "m", "object": "model", "created": 1, "owned_by": "me"}),
        ("GET", "/v1/files/f", FILE),
        ("GET", "/v1/vector_stores/v", STORE),
        ("GET", "/v1/vector_stores/v/file_batches/b", BATCH),
    ],
)
def test_an_answer_as_the_hosted_service_gave_it_passes(method: str, path: str, body: Json) -> None:
    DOCUMENT.check_response(method, path, 200, body)


@pytest.mark.parametrize(
    ("method", "path", "body", "fault"),
    [
        ("POST", "/v1/threads/t/runs", without_key(run(), "usage"), "'usage' is a required"),
        ("POST", "/v1/threads/t/runs", run("sleeping"), "'sleeping' is not one of"),
        ("POST", "/v1/threads/t/runs", run(created_at="now"), "created_at: 'now' is not of type"),
        ("POST", "/v1/threads/t/runs", run(max_prompt_tokens=255), "minimum of 256"),
        ("POST", "/v1/threads/t/runs", run(model=None), "model: None is not of type"),
        ("POST", "/v1/threads/t/runs", run(tools=[{"type": "x"}]), r"tools\[0\]"),
        ("POST", "/v1/threads/runs", THREAD[1], "is a required property"),
        ("GET", "/v1/assistants", page(ASSISTANT, first_id=None), "first_id, last_id"),
        ("GET", "/v1/assistants", page(ASSISTANT, last_id="asst_2"), "first_id, last_id"),
        ("GET", "/v1/assistants", page(first_id="asst_1"), "first_id, last_id"),
        ("GET", "/v1/assistants", page(has_more=None), "has_more"),
        ("GET", "/v1/assistants/a", {**ASSISTANT, "description": 5}, "description: 5"),
        ("GET", "/v1/threads/t/messages/m", message("done"), "'done' is not one of"),
        (
            "GET",
            "/v1/threads/t/messages/m",
            message("completed", {"type": "text"}),
            r"content\[0\]",
        ),
        (
            "GET",
            "/v1/threads/t/runs/r/steps/s",
            without_key(step("failed", calls()), "expired_at"),
            "expired_at",
        ),
        ("GET", "/v1/vector_stores/v", {**STORE, "name": 5}, "name"),
        ("GET", "/v1/vector_stores/v/file_batches/b", {**BATCH, "object": "batch"}, "object"),
        ("GET", "/v1/unknown", {}, "OpenAI has no such operation"),
        ("PATCH", "/v1/assistants", {}, "OpenAI has no such operation"),
    ],
)
def test_an_answer_that_openai_does_not_describe_is_caught(
    method: str, path: str, body: Json, fault: str
) -> None:
    with pytest.raises(AssertionError, match=fault):
        DOCUMENT.check_response(method, path, 200, body)


def test_an_error_passes_in_its_envelope() -> None:
    DOCUMENT.check_response("GET", "/v1/whatever", 404, {"error": ERROR})


@pytest.mark.parametrize(
    "body", [ERROR, {"detail": "x"}, {"error": without_key(ERROR, "param")}, [], None]
)
def test_an_error_without_its_envelope_is_caught(body: object) -> None:
    with pytest.raises(AssertionError, match="404"):
        DOCUMENT.check_response("GET", "/v1/assistants/a", 404, body)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("error", ERROR),
        ("done", {}),
        ("thread.run.created", THREAD[1]),
        ("thread.run.sleeping", run()),
        ("response.created", {}),
        ("thread.message.delta", message_delta({"type": "text"})[1]),
        ("thread.run.step.delta", step_delta({"type": "function"})[1]),
    ],
)
def test_an_event_that_openai_does_not_describe_is_caught(name: str, data: object) -> None:
    with pytest.raises(AssertionError):
        DOCUMENT.check_event(name, data)


@pytest.mark.parametrize(
    ("method", "path", "described"),
    [("GET", "/v1/threads/t", True), ("get", "/v1/models", True), ("GET", "/healthz", False)],
)
def test_it_is_known_which_operations_are_openais(
    method: str, path: str, *, described: bool
) -> None:
    assert DOCUMENT.describes(method, path) is described


def test_every_schema_is_one() -> None:
    for operation in DOCUMENT.operations:
        jsonschema_rs.meta.validate(operation.answer.schema)


def test_the_document_names_its_origin() -> None:
    assert read()["info"]["license"]["name"] == "MIT"
