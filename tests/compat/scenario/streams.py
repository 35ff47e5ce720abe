"""Runs that are streamed."""

from typing import Any

from openai import AssistantEventHandler

from tests.compat.scenario.base import HANG, HELLO, QUESTION, Scenario, outputs_for, text_of


class Streams(Scenario):
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

    def text_beside_a_call_is_a_message_of_its_own(self) -> None:
        thread = self._thread(f"[[text:Wait]] {QUESTION}")
        handler = Recorder()
        with self._runs.stream(
            thread_id=thread, assistant_id=self._forecaster, event_handler=handler
        ) as stream:
            stream.until_done()
            run = stream.get_final_run()
        assert handler.heard == [
            *("step created", "message created", "text created", "text Wait", "text done Wait"),
            *("message done", "step done message_creation"),
            *("step created", "call get_weather", 'call done {"city":"Paris"}', "end"),
        ], handler.heard
        assert run.status == "requires_action"
        assert self._answer(thread) == "Wait"

    def a_second_round_of_calls_is_streamed(self) -> None:
        thread = self._thread(QUESTION)
        with self._runs.stream(thread_id=thread, assistant_id=self._forecaster) as stream:
            run = stream.get_final_run()
        (first,) = outputs_for(run)
        handler = Recorder()
        with self._runs.submit_tool_outputs_stream(
            thread_id=thread,
            run_id=run.id,
            tool_outputs=[first | {"output": QUESTION}],
            event_handler=handler,
        ) as stream:
            stream.until_done()
            run = stream.get_final_run()
        assert run.status == "requires_action"
        assert handler.heard == [
            *("step done tool_calls", "step created", "call get_weather"),
            *('call done {"city":"Paris"}', "end"),
        ], handler.heard
        with self._runs.submit_tool_outputs_stream(
            thread_id=thread, run_id=run.id, tool_outputs=outputs_for(run)
        ) as stream:
            assert "sunny in Paris" in "".join(stream.text_deltas)

    def a_failed_run_ends_its_stream(self) -> None:
        thread = self._thread("[[status:401 message=No]]")
        events = self._runs.create(thread, assistant_id=self._assistant, stream=True)
        *_, last = events
        assert last.event == "thread.run.failed"

    def an_answer_that_breaks_off_ends_its_stream(self) -> None:
        thread = self._thread("[[drop-after:3]] [[tokens:9]]")
        handler = Recorder()
        with self._runs.stream(
            thread_id=thread, assistant_id=self._assistant, event_handler=handler
        ) as stream:
            stream.until_done()
            run = stream.get_final_run()
        assert run.status == "failed", run
        assert self._answer(thread)

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

    def a_stream_ends_when_its_run_is_cancelled(self) -> None:
        thread = self._thread(HANG)
        events = self._runs.create(thread, assistant_id=self._assistant, stream=True)
        first: Any = next(iter(events))
        self._runs.cancel(first.data.id, thread_id=thread)
        names = [event.event for event in events]
        assert names[-1] == "thread.run.cancelled", names


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
