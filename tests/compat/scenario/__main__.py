"""One program for every openai-python release; it prints what passed, what the release lacks and what failed.

    OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=… python scenario.py scripted|embedded

`[[…]]` in a message is a directive to the scripted upstream; the embedded model takes it as text.
"""

import asyncio
import inspect
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import openai
from openai import AssistantEventHandler, AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.beta import FunctionToolParam
from openai.types.beta.threads import Run

MODEL = "gpt-4o"
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


class AnyModel:
    """What holds whoever answers."""

    def __init__(self) -> None:
        self._client = OpenAI(max_retries=0)
        self._beta = self._client.beta
        self._runs = self._client.beta.threads.runs
        self._messages = self._client.beta.threads.messages
        self._assistant = self._beta.assistants.create(model=MODEL, name="Plain").id
        self._forecaster = self._beta.assistants.create(model=MODEL, tools=[WEATHER]).id

    def models_are_listed(self) -> None:
        assert [model.id for model in self._client.models.list()]

    def a_run_is_polled_to_its_end(self) -> None:
        thread = self._thread(HELLO)
        run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._assistant)
        assert run.status == "completed", run
        assert run.usage is not None
        assert run.usage.total_tokens > 0
        assert self._answer(thread)

    def text_deltas_add_up_to_the_message(self) -> None:
        thread = self._thread(HELLO)
        with self._runs.stream(thread_id=thread, assistant_id=self._assistant) as stream:
            text = "".join(stream.text_deltas)
        assert text == self._answer(thread)

    def a_function_is_called_and_its_output_used(self) -> None:
        thread = self._thread(QUESTION)
        run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._forecaster)
        assert run.status == "requires_action", run
        run = self._runs.submit_tool_outputs_and_poll(
            thread_id=thread, run_id=run.id, tool_outputs=outputs_for(run)
        )
        assert run.status == "completed", run
        assert "sunny in Paris" in self._answer(thread)

    def a_follow_up_question_runs_in_the_same_thread(self) -> None:
        thread = self._thread("My name is Ada.")
        for question in (None, "What is my name?"):
            if question:
                self._messages.create(thread, role="user", content=question)
            run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._assistant)
            assert run.status == "completed", run
        roles = [message.role for message in self._messages.list(thread, order="asc")]
        assert roles == ["user", "assistant"] * 2

    def _thread(self, text: str) -> str:
        return self._beta.threads.create(messages=[{"role": "user", "content": text}]).id

    def _answer(self, thread: str) -> str:
        newest = self._messages.list(thread).data[0]
        assert newest.role == "assistant"
        return text_of(newest.content)


class Scripted(AnyModel):
    """What needs an upstream that obeys directives."""

    def assistants_are_created_changed_and_deleted(self) -> None:
        assistants = self._beta.assistants
        made = assistants.create(
            model=MODEL, name="A", instructions="I", tools=[WEATHER], metadata={"k": "v"}
        )
        assert (made.name, made.metadata, made.tools[0].type) == ("A", {"k": "v"}, "function")
        assert assistants.update(made.id, name="B").name == "B"
        assert assistants.retrieve(made.id).instructions == "I"
        assert assistants.delete(made.id).deleted
        refused(openai.NotFoundError, lambda: assistants.retrieve(made.id))

    def lists_turn_their_own_pages(self) -> None:
        made = [self._beta.assistants.create(model=MODEL).id for _ in range(5)]
        page = self._beta.assistants.list(limit=2)
        assert page.has_next_page()
        assert [one.id for one in itertools.islice(page, 5)] == made[::-1]
        later = self._beta.assistants.list(after=made[1], order="asc", limit=2)
        assert [one.id for one in itertools.islice(later, 3)] == made[2:]

    def threads_are_created_changed_and_deleted(self) -> None:
        threads = self._beta.threads
        made = threads.create(metadata={"k": "v"})
        assert threads.update(made.id, metadata={"k": "w"}).metadata == {"k": "w"}
        assert threads.retrieve(made.id).metadata == {"k": "w"}
        assert threads.delete(made.id).deleted
        refused(openai.NotFoundError, lambda: threads.retrieve(made.id))

    def messages_have_text_parts_and_pictures(self) -> None:
        thread = self._beta.threads.create().id
        first = self._messages.create(thread, role="user", content="Hi", metadata={"k": "v"})
        second = self._messages.create(
            thread,
            role="user",
            content=[
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            ],
        )
        assert text_of(first.content) == "Hi"
        assert [part.type for part in second.content] == ["text", "image_url"]
        assert [one.id for one in self._messages.list(thread)] == [second.id, first.id]
        changed = self._messages.update(first.id, thread_id=thread, metadata={"k": "w"})
        assert changed.metadata == {"k": "w"}
        assert self._messages.retrieve(first.id, thread_id=thread).metadata == {"k": "w"}
        self._messages.delete(second.id, thread_id=thread)
        assert [one.id for one in self._messages.list(thread)] == [first.id]

    def a_picture_reaches_the_model(self) -> None:
        picture: Any = {"type": "image_url", "image_url": {"url": PICTURE}}
        content: Any = [{"type": "text", "text": HELLO}, picture]
        thread = self._beta.threads.create(messages=[{"role": "user", "content": content}]).id
        run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._assistant)
        assert run.status == "completed", run
        assert self._answer(thread) == "Hello there"

    def runs_are_created_polled_listed_and_changed(self) -> None:
        thread = self._thread(HELLO)
        run = self._runs.create(thread, assistant_id=self._assistant, metadata={"k": "v"})
        assert run.status == "queued"
        run = self._runs.poll(thread_id=thread, run_id=run.id, poll_interval_ms=QUICKLY)
        assert (run.status, run.metadata) == ("completed", {"k": "v"}), run
        changed = self._runs.update(thread_id=thread, run_id=run.id, metadata={"k": "w"})
        assert changed.metadata == {"k": "w"}
        assert [one.id for one in self._runs.list(thread)] == [run.id]
        assert self._answer(thread) == "Hello there"

    def a_thread_and_its_run_are_made_at_once(self) -> None:
        run = self._beta.threads.create_and_run_poll(
            assistant_id=self._assistant,
            thread={"messages": [{"role": "user", "content": HELLO}]},
            poll_interval_ms=QUICKLY,
        )
        assert run.status == "completed", run
        assert self._answer(run.thread_id) == "Hello there"

    def a_handler_hears_the_text(self) -> None:
        handler = Recorder()
        with self._runs.stream(
            thread_id=self._thread(HELLO), assistant_id=self._assistant, event_handler=handler
        ) as stream:
            stream.until_done()
            run = stream.get_final_run()
            messages = stream.get_final_messages()
            steps = stream.get_final_run_steps()
        assert handler.heard == [
            *("step created", "message created", "text created", "text Hello", "text  there"),
            *("text done Hello there", "message done", "step done message_creation", "end"),
        ], handler.heard
        assert run.status == "completed"
        assert [text_of(message.content) for message in messages] == ["Hello there"]
        assert [step.type for step in steps] == ["message_creation"]

    def a_handler_hears_a_call_and_answers_it(self) -> None:
        thread = self._thread(QUESTION)
        handler = Recorder()
        with self._runs.stream(
            thread_id=thread, assistant_id=self._forecaster, event_handler=handler
        ) as stream:
            stream.until_done()
        run = handler.current_run
        assert run is not None
        assert handler.heard == [
            *("step created", "call get_weather", 'call done {"city":"Paris"}', "end")
        ], handler.heard
        assert handler.arguments == '{"city":"Paris"}'
        answering = Recorder()
        with self._runs.submit_tool_outputs_stream(
            thread_id=thread,
            run_id=run.id,
            tool_outputs=outputs_for(run),
            event_handler=answering,
        ) as stream:
            stream.until_done()
            assert stream.get_final_run().status == "completed"
        assert "step done tool_calls" in answering.heard, answering.heard
        assert "sunny in Paris" in self._answer(thread)

    def parallel_calls_are_answered_together(self) -> None:
        thread = self._thread(BOTH)
        with self._runs.stream(thread_id=thread, assistant_id=self._forecaster) as stream:
            (step,) = stream.get_final_run_steps()
            run = stream.get_final_run()
        details: Any = step.step_details
        assert [json.loads(call.function.arguments)["city"] for call in details.tool_calls] == [
            *("Paris", "Rome")
        ]
        run = self._runs.submit_tool_outputs_and_poll(
            thread_id=thread,
            run_id=run.id,
            tool_outputs=outputs_for(run),
            poll_interval_ms=QUICKLY,
        )
        assert run.status == "completed", run
        steps = self._runs.steps.list(run.id, thread_id=thread, order="asc").data
        done: Any = steps[0].step_details
        assert [call.function.output for call in done.tool_calls] == [
            *("It is sunny in Paris.", "It is sunny in Rome.")
        ]

    def raw_events_come_in_their_order(self) -> None:
        events = self._runs.create(
            self._thread("[[text:Hello]]"), assistant_id=self._assistant, stream=True
        )
        assert [event.event for event in events] == [
            *("thread.run.created", "thread.run.queued", "thread.run.in_progress"),
            *("thread.run.step.created", "thread.run.step.in_progress"),
            *("thread.message.created", "thread.message.in_progress", "thread.message.delta"),
            *("thread.message.completed", "thread.run.step.completed", "thread.run.completed"),
        ]

    def a_new_thread_is_the_first_event(self) -> None:
        thread: Any = {"messages": [{"role": "user", "content": HELLO}]}
        events = self._beta.threads.create_and_run(
            assistant_id=self._assistant, thread=thread, stream=True
        )
        assert [event.event for event in events][:2] == ["thread.created", "thread.run.created"]
        with self._beta.threads.create_and_run_stream(
            assistant_id=self._assistant, thread=thread
        ) as stream:
            assert next(iter(stream)).event == "thread.created"
            assert stream.get_final_run().status == "completed"

    def a_run_is_cancelled(self) -> None:
        thread = self._thread(HANG)
        run = self._runs.create(thread, assistant_id=self._assistant)
        self._runs.cancel(run.id, thread_id=thread)
        run = self._runs.poll(thread_id=thread, run_id=run.id, poll_interval_ms=QUICKLY)
        assert run.status == "cancelled", run
        refused(
            openai.BadRequestError,
            lambda: self._runs.cancel(run.id, thread_id=thread),
            "Cannot cancel run with status 'cancelled'.",
        )
        self._messages.create(thread, role="user", content=HELLO)
        assert (
            self._runs.create_and_poll(thread_id=thread, assistant_id=self._assistant).status
            == "completed"
        )

    def a_stream_ends_when_its_run_is_cancelled(self) -> None:
        thread = self._thread(HANG)
        events = self._runs.create(thread, assistant_id=self._assistant, stream=True)
        first: Any = next(iter(events))
        self._runs.cancel(first.data.id, thread_id=thread)
        names = [event.event for event in events]
        assert names[-1] == "thread.run.cancelled", names

    def failed_and_cut_off_runs_say_why(self) -> None:
        failed = self._run("[[status:401 message=No]]")
        assert failed.status == "failed", failed
        assert failed.last_error is not None
        assert failed.last_error.code == "server_error"
        cut = self._run("[[text:Once upon]] [[finish:length]]")
        assert cut.status == "incomplete", cut
        assert cut.incomplete_details is not None
        assert cut.incomplete_details.reason == "max_completion_tokens"

    def steps_are_listed_and_read(self) -> None:
        run = self._run(HELLO)
        steps = self._runs.steps
        (listed,) = steps.list(run.id, thread_id=run.thread_id)
        step = steps.retrieve(listed.id, run_id=run.id, thread_id=run.thread_id)
        assert (step.id, step.type, step.status) == (listed.id, "message_creation", "completed")
        assert step.usage is not None

    def steps_take_include(self) -> None:
        needs(self._runs.steps.list, "include")
        run = self._run(HELLO)
        include: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
        (step,) = self._runs.steps.list(run.id, thread_id=run.thread_id, include=include)
        assert self._runs.steps.retrieve(
            step.id, run_id=run.id, thread_id=run.thread_id, include=include
        ).id == step.id  # fmt: skip

    def runs_take_include_parallel_calls_and_effort(self) -> None:
        for parameter in ("include", "parallel_tool_calls", "reasoning_effort"):
            needs(self._runs.create, parameter)
        run = self._runs.create_and_poll(
            thread_id=self._thread(HELLO),
            assistant_id=self._assistant,
            include=["step_details.tool_calls[*].file_search.results[*].content"],
            parallel_tool_calls=False,
            reasoning_effort="low",
        )
        assert run.status == "completed", run
        assert run.parallel_tool_calls is False

    def messages_and_instructions_are_added_for_a_run(self) -> None:
        thread = self._thread("one two")
        run = self._runs.create_and_poll(
            thread_id=thread,
            assistant_id=self._assistant,
            instructions="three",
            additional_instructions="four five six",
            additional_messages=[{"role": "user", "content": "[[tokens:3]]"}],
        )
        assert run.instructions == "three"
        assert run.usage is not None
        assert run.usage.prompt_tokens == 7, "the upstream counts words"
        assert len(self._messages.list(thread).data) == 3

    def explicit_nulls_are_like_nothing(self) -> None:
        nothing: Any = None
        assistant = self._beta.assistants.create(
            model=MODEL,
            name=None,
            description=None,
            instructions=None,
            tool_resources=None,
            metadata=nothing,
            response_format=nothing,
            temperature=None,
            top_p=None,
        )
        thread = self._beta.threads.create(
            messages=[{"role": "user", "content": HELLO, "attachments": None, "metadata": nothing}],
            metadata=nothing,
            tool_resources=None,
        )
        run = self._runs.create_and_poll(
            thread_id=thread.id,
            assistant_id=assistant.id,
            additional_instructions=None,
            additional_messages=None,
            instructions=None,
            max_completion_tokens=None,
            max_prompt_tokens=None,
            metadata=nothing,
            model=None,
            response_format=nothing,
            temperature=None,
            tool_choice=nothing,
            tools=nothing,
            top_p=None,
            truncation_strategy=nothing,
        )
        assert run.status == "completed", run

    def errors_are_the_sdks_own(self) -> None:
        refused(
            openai.NotFoundError,
            lambda: self._beta.threads.retrieve("thread_none"),
            "No thread found with id 'thread_none'.",
        )
        thread = self._thread(HANG)
        run = self._runs.create(thread, assistant_id=self._assistant)
        active = f"Thread {thread} already has an active run {run.id}."
        full = f"Can't add messages to {thread} while a run {run.id} is active."
        bad = openai.BadRequestError
        refused(bad, lambda: self._runs.create(thread, assistant_id=self._assistant), active)
        refused(bad, lambda: self._messages.create(thread, role="user", content="x"), full)
        self._runs.cancel(run.id, thread_id=thread)
        stranger = self._client.with_options(api_key="sk-wrong")
        refused(
            openai.AuthenticationError, stranger.beta.assistants.list, "Incorrect API key provided"
        )
        refused(
            bad, lambda: self._beta.assistants.create(model=MODEL, temperature=3), "temperature"
        )

    def the_asynchronous_client_does_the_same(self) -> None:
        asyncio.run(self._asynchronous())

    def an_azure_client_does_the_same(self) -> None:
        client = AzureOpenAI(
            azure_endpoint=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
            api_version="2024-05-01-preview",
            max_retries=0,
            api_key=os.environ["OPENAI_API_KEY"],
        )
        assistant = client.beta.assistants.create(model=MODEL)
        thread = client.beta.threads.create(messages=[{"role": "user", "content": HELLO}])
        runs = client.beta.threads.runs
        run = runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
        assert run.status == "completed", run
        with runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
            assert "".join(stream.text_deltas)

    async def _asynchronous(self) -> None:
        async with AsyncOpenAI(max_retries=0) as client:
            threads = client.beta.threads
            thread = await threads.create(messages=[{"role": "user", "content": QUESTION}])
            async with threads.runs.stream(
                thread_id=thread.id, assistant_id=self._forecaster
            ) as stream:
                run = await stream.get_final_run()
            async with threads.runs.submit_tool_outputs_stream(
                thread_id=thread.id, run_id=run.id, tool_outputs=outputs_for(run)
            ) as stream:
                text = "".join([delta async for delta in stream.text_deltas])
            assert "sunny in Paris" in text
            await threads.messages.create(thread.id, role="user", content=HELLO)
            run = await threads.runs.create_and_poll(
                thread_id=thread.id, assistant_id=self._assistant, poll_interval_ms=QUICKLY
            )
            assert run.status == "completed", run
            messages = [message async for message in threads.messages.list(thread.id, limit=2)]
            assert len(messages) == 4

    def _run(self, text: str) -> Run:
        return self._runs.create_and_poll(
            thread_id=self._thread(text), assistant_id=self._assistant, poll_interval_ms=QUICKLY
        )


class Recorder(AssistantEventHandler):
    """Writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.arguments = ""

    def on_run_step_created(self, run_step: Any) -> None:
        self.heard.append("step created")

    def on_run_step_done(self, run_step: Any) -> None:
        self.heard.append(f"step done {run_step.type}")

    def on_message_created(self, message: Any) -> None:
        self.heard.append("message created")

    def on_message_done(self, message: Any) -> None:
        self.heard.append("message done")

    def on_text_created(self, text: Any) -> None:
        self.heard.append("text created")

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        assert snapshot.value.endswith(delta.value)
        self.heard.append(f"text {delta.value}")

    def on_text_done(self, text: Any) -> None:
        self.heard.append(f"text done {text.value}")

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.append(f"call {tool_call.function.name}")

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.arguments += delta.function.arguments or ""
        assert snapshot.function.arguments == self.arguments

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.heard.append(f"call done {tool_call.function.arguments}")

    def on_end(self) -> None:
        self.heard.append("end")


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
    """The call raises exactly this error, and its message contains `text`."""
    try:
        call()
    except kind as error:
        said = str(error)
    else:
        said = None
    assert said is not None, f"{kind.__name__} was not raised"
    assert text in said, said


def main() -> None:
    scenario = {"scripted": Scripted, "embedded": AnyModel}[sys.argv[1]]()
    passed: list[str] = []
    lacking: list[str] = []
    failed: dict[str, str] = {}
    for name, check in inspect.getmembers(scenario, inspect.ismethod):
        if name.startswith("_"):
            continue
        try:
            check()
            passed.append(name)
        except Lacking:
            lacking.append(name)
        except Exception:  # noqa: BLE001 - the report is this program's answer
            failed[name] = traceback.format_exc(limit=-3)
    report = {"sdk": openai.__version__, "passed": passed, "lacking": lacking, "failed": failed}
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
