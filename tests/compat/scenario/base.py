"""What the checks share. `[[…]]` in a message is a directive to the scripted upstream; a model takes it as text."""

import inspect
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from openai import OpenAI
from openai.types.beta import FunctionToolParam
from openai.types.beta.threads import Run

MODEL = os.environ.get("MODEL", "gpt-4o")
QUICKLY = 50
HELLO = "[[text:Hello there]]"
HANG = "[[hang:2]]"
QUESTION = 'What is the weather in Paris? [[tool:get_weather {"city":"Paris"}]]'
BOTH = '[[tool:get_weather {"city":"Paris"}]] [[tool:get_weather {"city":"Rome"}]]'
PICTURE = "https://example.com/cat.png"
WEATHER: FunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Lacking(Exception):
    """The SDK is too old for it."""


def needs(function: Callable[..., object], parameter: str) -> None:
    if parameter not in inspect.signature(function).parameters:
        raise Lacking


class Scenario:
    """Checks are the methods without an underscore."""

    def __init__(self) -> None:
        self._client = OpenAI(max_retries=0)
        self._beta = self._client.beta
        self._runs = self._client.beta.threads.runs
        self._messages = self._client.beta.threads.messages
        self._assistant = self._beta.assistants.create(model=MODEL, name="Plain").id
        self._forecaster = self._beta.assistants.create(model=MODEL, tools=[WEATHER]).id

    def _thread(self, text: str) -> str:
        return self._beta.threads.create(messages=[{"role": "user", "content": text}]).id

    def _run(self, text: str) -> Run:
        return self._runs.create_and_poll(
            thread_id=self._thread(text), assistant_id=self._assistant, poll_interval_ms=QUICKLY
        )

    def _answer(self, thread: str) -> str:
        newest = self._messages.list(thread).data[0]
        assert newest.role == "assistant"
        return text_of(newest.content)


def outputs_for(run: Run) -> Any:
    assert run.required_action is not None
    return [
        {
            "tool_call_id": call.id,
            "output": f"It is sunny in {json.loads(call.function.arguments)['city']}.",
        }
        for call in run.required_action.submit_tool_outputs.tool_calls
    ]


def text_of(content: Iterable[Any]) -> str:
    return "".join(part.text.value for part in content if part.type == "text")


def refused(kind: type[Exception], call: Callable[[], object], text: str = "") -> None:
    """The call raises this error, whose message contains `text` and which names its request."""
    caught: Any = None
    try:
        call()
    except kind as error:
        caught = error
    assert caught is not None, f"{kind.__name__} was not raised"
    assert text in str(caught), caught
    assert caught.request_id.startswith("req_")
