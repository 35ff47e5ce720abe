"""Runs that run code, as the official SDK rebuilds them from their deltas."""

from typing import Any, cast

import pytest
from openai import AsyncAssistantEventHandler, AsyncOpenAI

from tests.runs.driver import Api
from tests.runs.sandboxes import PNG, coding
from threadloom.llm.chat import Finished, ToolCallDelta, ToolCallOpened
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox.session import Logs, Picture
from threadloom.testing import FakeSandbox, ScriptedModel
from threadloom.testing.model import USAGE
from threadloom.testing.sandbox import Writes

Json = dict[str, Any]
LINK = "sandbox:/mnt/data/out.csv"


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


class Recorder(AsyncAssistantEventHandler):
    """Keeps what the SDK made of the deltas, beside what it was given in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.rebuilt: list[Any] = []
        self.given: list[Any] = []
        self._message: Any = None

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.append(f"call {tool_call.id}")

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.append(f"input {delta.code_interpreter.input}")

    async def on_run_step_done(self, run_step: Any) -> None:
        if run_step.type == "tool_calls":
            snapshot = self.current_run_step_snapshot
            assert snapshot is not None
            self.rebuilt.append(unnumbered(snapshot.step_details.to_dict()))
            self.given.append(run_step.step_details.to_dict())

    async def on_message_delta(self, delta: Any, snapshot: Any) -> None:
        self._message = [unnumbered(part.to_dict()) for part in snapshot.content]

    async def on_message_done(self, message: Any) -> None:
        self.rebuilt.append(self._message)
        self.given.append([without_detail(part.to_dict()) for part in message.content])

    async def on_image_file_done(self, image_file: Any) -> None:
        self.heard.append(f"picture {image_file.file_id}")

    async def on_text_created(self, text: Any) -> None:
        self.heard.append("text")

    async def on_text_done(self, text: Any) -> None:
        self.heard.append(f"text done {text.value}")


def unnumbered(value: Any) -> Any:
    """What was rebuilt without the numbers that deltas need."""
    if isinstance(value, list):
        return [unnumbered(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        entries = cast("Json", value).items()
        return {name: unnumbered(one) for name, one in entries if name != "index"}
    return value


def without_detail(part: Json) -> Json:
    """A picture's detail is what it is by default: it is not streamed."""
    if part["type"] == "image_file":
        assert part["image_file"].pop("detail") == "auto"
    return part


async def test_an_event_handler_rebuilds_what_is_stored(
    api: Api, client: AsyncOpenAI, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    model.plays(
        ToolCallOpened(0, "call_0", "code_interpreter"),
        ToolCallDelta(0, '{"code": "print('),
        ToolCallDelta(0, '1)"}'),
        ToolCallOpened(1, "call_1", "code_interpreter"),
        ToolCallDelta(1, '{"code": "plot()"}'),
        Finished("tool_calls", USAGE),
    )
    sandbox.then(Logs("1\n"), Writes("out.csv", b"a"))
    sandbox.then(Logs("2\n"), Picture("image/png", PNG), Picture("image/png", PNG))
    model.says("\U0001f600 See [it](", "sandbox:/mnt/da", "ta/out.csv)", f" or {LINK}.")
    talk = await coding(api)
    handler = Recorder()
    async with client.beta.threads.runs.stream(
        thread_id=talk.thread, assistant_id=talk.assistant, event_handler=handler
    ) as stream:
        await stream.until_done()
        (message,) = await stream.get_final_messages()
    assert handler.rebuilt == handler.given
    assert len(handler.given) == 2
    pictures = [part["image_file"]["file_id"] for part in handler.rebuilt[1][:2]]
    assert handler.heard == [
        *("call call_0", "input print(", "input 1)"),
        *("input None", "call call_1", "input plot()", "input None"),
        *(f"picture {file_id}" for file_id in pictures[:1]),
        *("text", f"picture {pictures[1]}", f"text done \U0001f600 See [it]({LINK}) or {LINK}."),
    ]
    stored = await client.beta.threads.messages.retrieve(message.id, thread_id=talk.thread)
    assert stored.to_dict() == message.to_dict()
    text = cast("Any", stored.content[2]).text
    assert [text.value[one.start_index : one.end_index] for one in text.annotations] == [LINK, LINK]
    for annotation in text.annotations:
        content = await client.files.content(annotation.file_path.file_id)
        assert content.content == b"a"
