"""Runs that are polled, and their steps."""

import json
from typing import Any

import openai

from tests.compat.scenario.base import (
    BOTH,
    HANG,
    HELLO,
    PICTURE,
    QUESTION,
    QUICKLY,
    Scenario,
    needs,
    outputs_for,
    refused,
)


class Runs(Scenario):
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

    def a_second_round_of_calls_follows_the_first(self) -> None:
        thread = self._thread(QUESTION)
        run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._forecaster)
        (first,) = outputs_for(run)
        run = self._runs.submit_tool_outputs_and_poll(
            thread_id=thread,
            run_id=run.id,
            tool_outputs=[first | {"output": BOTH}],
            poll_interval_ms=QUICKLY,
        )
        assert run.status == "requires_action", run
        run = self._runs.submit_tool_outputs_and_poll(
            thread_id=thread,
            run_id=run.id,
            tool_outputs=outputs_for(run),
            poll_interval_ms=QUICKLY,
        )
        assert run.status == "completed", run
        assert "sunny in Rome" in self._answer(thread)
        steps = self._runs.steps.list(run.id, thread_id=thread, order="asc")
        assert [step.type for step in steps] == ["tool_calls", "tool_calls", "message_creation"]

    def a_run_that_waits_for_outputs_is_cancelled(self) -> None:
        thread = self._thread(QUESTION)
        run = self._runs.create_and_poll(thread_id=thread, assistant_id=self._forecaster)
        self._runs.cancel(run.id, thread_id=thread)
        run = self._runs.poll(thread_id=thread, run_id=run.id, poll_interval_ms=QUICKLY)
        assert run.status == "cancelled", run
        assert run.required_action is None

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
