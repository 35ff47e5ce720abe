import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.llm.chat import ChatEvent
from threadloom.llm.sse import DataLines, LineTooLong
from threadloom.llm.wire import DONE, ChunkReader
from threadloom.testing import SequentialIds

CHUNKS: list[dict[str, object]] = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Grüße 👩‍👩‍👧 "}}]},
    {"choices": [{"delta": {"content": "data: \n\n[DONE]\r\n"}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"ä":'}}]}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}}]},
    {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
]


def stream(line_end: bytes) -> bytes:
    lines = [b": a comment", b"event: message", b"retry: 10", b"data:"]
    for chunk in CHUNKS:
        lines += [b"data: " + orjson.dumps(chunk), b"", b": ping", b""]
    return line_end.join([*lines, b"data: [DONE]", b"", b""])


def decode(pieces: list[bytes]) -> list[ChatEvent]:
    lines, reader = DataLines(), ChunkReader(SequentialIds())
    payloads = [payload for piece in pieces for payload in lines.feed(piece)] + lines.flush()
    assert payloads[-1] == DONE
    return [event for payload in payloads[:-1] for event in reader.read(payload)] + reader.finish()


@st.composite
def splits(draw: st.DrawFn) -> list[bytes]:
    content = stream(draw(st.sampled_from([b"\n", b"\r\n"])))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=40)))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


@given(splits())
def test_any_split_gives_the_same_events(pieces: list[bytes]) -> None:
    assert decode(pieces) == decode([stream(b"\n")])


def test_every_split_in_two_gives_the_same_events() -> None:
    content = stream(b"\r\n")
    whole = decode([content])
    assert all(decode([content[:i], content[i:]]) == whole for i in range(len(content)))


def test_a_last_line_without_an_end_counts() -> None:
    lines = DataLines()
    assert lines.feed(b"data: 1\ndata: 2") == [b"1"]
    assert lines.flush() == [b"2"]


def test_a_line_that_never_ends_is_refused() -> None:
    lines = DataLines(longest=1000)
    lines.feed(b"x" * 1000)
    with pytest.raises(LineTooLong):
        lines.feed(b"x")


def test_a_line_may_be_as_long_as_the_limit() -> None:
    lines = DataLines(longest=1000)
    for _ in range(10):
        assert lines.feed(b"x" * 100) == []
    assert lines.feed(b"\ndata: 1\n") == [b"1"]
