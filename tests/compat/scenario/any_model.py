"""What holds whoever answers."""

from tests.compat.scenario.base import HELLO, QUESTION, Scenario, outputs_for


class AnyModel(Scenario):
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
