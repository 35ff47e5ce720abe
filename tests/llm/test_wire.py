from typing import Any

import pytest

from threadloom.llm.chat import (
    AssistantMessage,
    ChatEvent,
    ChatRequest,
    Finished,
    Function,
    ImagePart,
    NamedTool,
    RefusalDelta,
    SystemMessage,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
    Usage,
    UserMessage,
)
from threadloom.llm.wire import (
    COMPATIBLE,
    OPENAI,
    AnswerBroken,
    AnswerFailed,
    ChunkReader,
    request_body,
)
from threadloom.testing import SequentialIds

PLAIN = ChatRequest("m", (UserMessage((TextPart("Hi"),)),))
TOOLS = (Function("f", "does", {"type": "object"}, strict=True), Function("g"))


def with_tools(**fields: Any) -> ChatRequest:
    return ChatRequest("m", PLAIN.messages, tools=TOOLS, **fields)


def play(*fragments: dict[str, Any], finish: str | None = "tool_calls") -> list[ChatEvent]:
    """The events of tool call fragments, each in a chunk of its own."""
    reader = ChunkReader(SequentialIds())
    seen = [event for f in fragments for event in reader.events(chunk({"tool_calls": [f]}))]
    return seen + reader.events(chunk({}, finish)) + reader.finish()


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def fragment(index: int | None = None, id: str | None = None, **function: Any) -> dict[str, Any]:  # noqa: A002
    place = {} if index is None else {"index": index}
    return place | ({} if id is None else {"id": id}) | {"function": function}


def test_what_a_request_leaves_open_is_not_sent() -> None:
    assert request_body(PLAIN, COMPATIBLE) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_zero_is_sent() -> None:
    request = ChatRequest("m", PLAIN.messages, temperature=0.0, top_p=0.0)
    body = request_body(request, COMPATIBLE)
    assert (body["temperature"], body["top_p"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("dialect", "field"), [(OPENAI, "max_completion_tokens"), (COMPATIBLE, "max_tokens")]
)
def test_the_limit_is_sent_under_the_name_the_server_knows(dialect: Any, field: str) -> None:
    request = ChatRequest("m", PLAIN.messages, max_completion_tokens=7)
    assert request_body(request, dialect) == request_body(PLAIN, dialect) | {field: 7}


def test_functions_are_declared_with_what_is_known_of_them() -> None:
    assert request_body(with_tools(), COMPATIBLE)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "does",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        (NamedTool("f"), {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tool_choice_is_sent_unless_it_is_the_default(choice: Any, sent: Any) -> None:
    assert request_body(with_tools(tool_choice=choice), COMPATIBLE).get("tool_choice") == sent


@pytest.mark.parametrize(
    ("dialect", "parallel", "sent"),
    [
        (COMPATIBLE, True, True),
        (COMPATIBLE, False, False),
        (OPENAI, True, None),
        (OPENAI, False, False),
    ],
)
def test_parallel_calls_go_with_tools_only(dialect: Any, parallel: bool, sent: bool | None) -> None:
    body = request_body(with_tools(parallel_tool_calls=parallel), dialect)
    assert body.get("parallel_tool_calls") is sent
    assert "parallel_tool_calls" not in request_body(PLAIN, dialect)


def test_a_conversation_with_everything_keeps_its_shape() -> None:
    request = ChatRequest(
        "m",
        (
            SystemMessage("Be kind."),
            UserMessage((TextPart("See"), ImagePart("data:image/png;base64,AA", "low"))),
            AssistantMessage("", (ToolCall("call_1", "f", ""),)),
            ToolMessage("call_1", "42"),
            AssistantMessage("Done"),
            UserMessage((TextPart("a"), TextPart("b"))),
        ),
        response_format={"type": "json_object"},
        reasoning_effort="low",
    )
    assert request_body(request, COMPATIBLE) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            {"role": "assistant", "content": "Done"},
            {"role": "user", "content": "a\nb"},
        ],
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }


def test_unknown_fields_are_ignored_and_refusals_kept() -> None:
    reader = ChunkReader(SequentialIds())
    assert reader.events(chunk({"reasoning_content": "Hmm", "content": None})) == []
    assert reader.events(chunk({"content": "a", "refusal": "b"})) == [
        TextDelta("a"),
        RefusalDelta("b"),
    ]


def test_arguments_come_in_fragments() -> None:
    assert play(
        fragment(0, "a", name="f", arguments=""),
        fragment(0, arguments='{"x"'),
        fragment(0, arguments=":1}"),
    ) == [
        ToolCallOpened(0, "a", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ":1}"),
        Finished("tool_calls"),
    ]


def test_a_name_that_comes_late_holds_the_arguments_back() -> None:
    assert play(fragment(0, "a", arguments="{"), fragment(0, name="f", arguments="}")) == [
        ToolCallOpened(0, "a", "f"),
        ToolCallDelta(0, "{}"),
        Finished("tool_calls"),
    ]


def test_a_missing_id_is_made() -> None:
    opened = ToolCallOpened(0, "call_" + "1".zfill(24), "f")
    assert play(fragment(0, name="f")) == [opened, Finished("tool_calls")]


def test_an_id_that_another_call_has_is_replaced() -> None:
    seen = play(
        fragment(0, "a", name="f", arguments="1"),
        fragment(1, "a", name="f", arguments="2"),
        fragment(1, arguments="3"),
    )
    assert seen == [
        ToolCallOpened(0, "a", "f"),
        ToolCallDelta(0, "1"),
        ToolCallOpened(1, "call_" + "1".zfill(24), "f"),
        ToolCallDelta(1, "2"),
        ToolCallDelta(1, "3"),
        Finished("tool_calls"),
    ]


def test_whole_calls_in_one_chunk_need_no_index() -> None:
    whole = [fragment(None, "a", name="f", arguments="{}"), fragment(None, "b", name="f")]
    seen = ChunkReader(SequentialIds()).events(chunk({"tool_calls": whole}))
    assert seen == [
        ToolCallOpened(0, "a", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallOpened(1, "b", "f"),
    ]


def test_calls_without_index_and_id_are_told_apart_by_their_names() -> None:
    seen = play(
        fragment(name="f", arguments="1"),
        fragment(arguments="2"),
        fragment(name="f", arguments="3"),
    )
    assert [event for event in seen if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(0, "1"),
        ToolCallDelta(0, "2"),
        ToolCallDelta(1, "3"),
    ]


def test_parallel_calls_that_all_have_index_zero_are_told_apart() -> None:
    seen = play(
        fragment(0, "a", name="f", arguments="1"), fragment(0, "b", name="g", arguments="2")
    )
    assert [event for event in seen if isinstance(event, ToolCallOpened)] == [
        ToolCallOpened(0, "a", "f"),
        ToolCallOpened(1, "b", "g"),
    ]


def test_interleaved_calls_keep_their_arguments() -> None:
    seen = play(
        fragment(3, "a", name="f"),
        fragment(7, "b", name="g"),
        fragment(3, arguments="1"),
        fragment(7, arguments="2"),
    )
    assert seen[2:4] == [ToolCallDelta(0, "1"), ToolCallDelta(1, "2")]


def test_arguments_may_be_an_object() -> None:
    assert play(fragment(0, "a", name="f", arguments={"x": 1}))[1] == ToolCallDelta(0, '{"x":1}')


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("tool_calls", "stop"),
    ],
)
def test_finish_reasons_are_mapped(reason: str, meant: str) -> None:
    assert play(finish=reason) == [Finished(meant)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("reason", "meant"),
    [("stop", "tool_calls"), ("function_call", "tool_calls"), ("length", "length")],
)
def test_a_turn_with_calls_ends_in_calls_unless_it_was_cut(reason: str, meant: str) -> None:
    assert play(fragment(0, "a", name="f"), finish=reason)[-1] == Finished(meant)  # pyright: ignore[reportArgumentType]


def test_usage_has_its_details() -> None:
    reader = ChunkReader(SequentialIds())
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert reader.events({"choices": [], "usage": usage}) == []
    assert reader.finish() == [Finished("stop", Usage(10, 5, 3, 2))]


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", b'"x"', b'{"choices": [1]}', b'{"choices": [{"delta": {"content": 5}}]}'],
)
def test_what_is_no_chunk_is_refused(payload: bytes) -> None:
    with pytest.raises(AnswerBroken):
        ChunkReader(SequentialIds()).read(payload)


def test_an_error_inside_the_answer_is_reported() -> None:
    with pytest.raises(AnswerFailed):
        ChunkReader(SequentialIds()).read(b'{"error": {"message": "overloaded", "code": 503}}')
