"""What clients may do to a run in each of its states, how runs end, and what they cost."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tests.runs.driver import CODE, FUNCTION, Api, Json, Talk, answers, text_of
from tests.support.server import Running
from threadloom.db.rows import RunRow
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    FailureCode,
    Finished,
    RefusalDelta,
    TextDelta,
    ToolCallOpened,
    Usage,
)
from threadloom.runs.states import IllegalTransition, transition
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels

TIME: Json = {"type": "function", "function": {"name": "time"}}


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_token_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


async def waiting(api: Api, model: ScriptedModel, *names: str) -> tuple[Talk, Json]:
    """A run that waits for the outputs of calls."""
    model.calls(*((name, "{}") for name in names or ("weather",)))
    talk = await api.talk(tools=[FUNCTION, TIME])
    run = await talk.ask()
    assert run["status"] == "requires_action"
    return talk, run


async def ended(api: Api, model: ScriptedModel) -> tuple[Talk, Json]:
    model.says("Hello")
    talk = await api.talk()
    return talk, await talk.ask()


# The lock


async def test_an_active_run_locks_its_thread(api: Api, model: ScriptedModel) -> None:
    talk, run = await waiting(api, model)
    body: Json = {"role": "user", "content": "And?"}
    assert await api.refused(f"{talk.path}/messages", body) == (
        f"Can't add messages to {talk.thread} while a run {run['id']} is active."
    )
    again: Json = {"assistant_id": talk.assistant, "additional_messages": [body]}
    assert await api.refused(f"{talk.path}/runs", again) == (
        f"Thread {talk.thread} already has an active run {run['id']}."
    )
    assert await talk.said() == ["Hi"]


async def test_an_ended_run_frees_its_thread(api: Api, model: ScriptedModel) -> None:
    talk, _ = await ended(api, model)
    model.says("Again")
    await api.post(f"{talk.path}/messages", {"role": "user", "content": "And?"})
    assert (await talk.ask())["status"] == "completed"


async def test_one_of_many_racing_runs_wins(api: Api, model: ScriptedModel) -> None:
    model.calls(("weather", "{}"))
    talk = await api.talk(tools=[FUNCTION])
    body = {"assistant_id": talk.assistant}
    racing = (api.call("POST", f"{talk.path}/runs", body) for _ in range(8))
    statuses = [response.status_code for response in await asyncio.gather(*racing)]
    assert sorted(statuses) == [200] + [400] * 7


async def test_metadata_of_an_active_run_can_be_changed(api: Api, model: ScriptedModel) -> None:
    talk, run = await waiting(api, model)
    changed = await api.post(talk.run_path(run), {"metadata": {"a": "1"}})
    assert changed == run | {"metadata": {"a": "1"}}


# Cancelling


async def test_a_queued_run_is_cancelled(api: Api, model: ScriptedModel, server: Running) -> None:
    server.background.drain()
    talk = await api.talk()
    run = await talk.run()
    cancelled = await talk.cancel(run)
    assert cancelled == run | {"status": "cancelling"}
    assert await api.refused(f"{talk.run_path(run)}/cancel") == (
        "Cannot cancel run with status 'cancelling'."
    )


async def test_a_run_that_waits_for_its_client_is_cancelled(
    api: Api, model: ScriptedModel, clock: FrozenClock
) -> None:
    talk, run = await waiting(api, model)
    cancelling = await talk.cancel(run)
    assert (cancelling["status"], cancelling["required_action"]) == ("cancelling", None)
    run = await talk.until(run, "cancelled")
    assert (run["cancelled_at"], run["expires_at"]) == (int(clock.now()), None)
    assert run["usage"] == usage(10, 5)
    (step,) = await talk.steps(run)
    assert step["status"] == "cancelled"


async def test_a_run_is_cancelled_between_its_turns(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    running = asyncio.Event()
    tool.then(running)
    model.calls(("code_interpreter", "1"))
    talk = await api.talk(tools=[CODE])
    async with talk.streamed() as stream:
        run = (await stream.until("thread.run.created")).json
        await stream.until("thread.run.step.delta")
        await talk.cancel(run)
        running.set()
        await stream.until("thread.run.cancelled")
    assert model.remaining == 0


async def test_an_ended_run_is_not_cancelled(api: Api, model: ScriptedModel) -> None:
    talk, run = await ended(api, model)
    assert await api.refused(f"{talk.run_path(run)}/cancel") == (
        "Cannot cancel run with status 'completed'."
    )


# Answering calls


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["call_{0}1"], "['call_{0}1']"),
        (["call_{0}1", "call_{0}1"], "['call_{0}1', 'call_{0}1']"),
        (["call_{0}1", "call_{0}2", "call_other"], "['call_{0}1', 'call_{0}2', 'call_other']"),
        ([], "[]"),
    ],
)
async def test_all_pending_calls_are_answered_at_once(
    api: Api, model: ScriptedModel, given: list[str], shown: str
) -> None:
    talk, run = await waiting(api, model, "weather", "time")
    zeros = "0" * 23
    outputs = [{"tool_call_id": one.format(zeros), "output": "x"} for one in given]
    path = f"{talk.run_path(run)}/submit_tool_outputs"
    assert await api.refused(path, {"tool_outputs": outputs}) == (
        f"Expected tool outputs for call_ids ['call_{zeros}1', 'call_{zeros}2'], "
        f"got {shown.format(zeros)}"
    )
    assert await api.get(talk.run_path(run)) == run


async def test_an_output_may_be_missing_or_empty(api: Api, model: ScriptedModel) -> None:
    talk, run = await waiting(api, model, "weather", "time")
    model.says("Fine")
    first, second = answers(run, "", "")["tool_outputs"]
    outputs = [{"tool_call_id": second["tool_call_id"]}, first]
    queued = await api.post(f"{talk.run_path(run)}/submit_tool_outputs", {"tool_outputs": outputs})
    assert (queued["status"], queued["required_action"]) == ("queued", None)
    await talk.rested(run)
    step = (await talk.steps(run))[0]
    calls = step["step_details"]["tool_calls"]
    assert [call["function"]["output"] for call in calls] == ["", ""]


async def test_outputs_are_taken_once(api: Api, model: ScriptedModel) -> None:
    talk, run = await waiting(api, model)
    model.says("Sunny")
    await talk.submit(run, "sunny")
    await talk.until(run, "completed")
    path = f"{talk.run_path(run)}/submit_tool_outputs"
    assert await api.refused(path, answers(run, "sunny")) == (
        'Runs in status "completed" do not accept tool outputs.'
    )


async def test_one_of_many_racing_answers_wins(api: Api, model: ScriptedModel) -> None:
    talk, run = await waiting(api, model)
    model.says("Sunny")
    path = f"{talk.run_path(run)}/submit_tool_outputs"
    racing = (api.call("POST", path, answers(run, "sunny")) for _ in range(8))
    statuses = [response.status_code for response in await asyncio.gather(*racing)]
    assert sorted(statuses) == [200] + [400] * 7
    await talk.until(run, "completed")
    assert len(model.requests) == 2


async def test_outputs_come_too_late_for_an_expired_run(
    api: Api, model: ScriptedModel, clock: FrozenClock, server: Running
) -> None:
    talk, run = await waiting(api, model)
    server.background.drain()
    clock.advance(600)
    path = f"{talk.run_path(run)}/submit_tool_outputs"
    assert await api.refused(path, answers(run, "sunny")) == (
        'Runs in status "expired" do not accept tool outputs.'
    )


async def test_a_run_is_found_in_its_own_thread_only(api: Api, model: ScriptedModel) -> None:
    _, run = await ended(api, model)
    other = await api.talk()
    here, nowhere = f"{other.path}/runs/{run['id']}", f"/threads/thread_0/runs/{run['id']}"
    responses = [await api.call("GET", path) for path in (here, nowhere)]
    assert [one.json()["error"]["message"] for one in responses] == [
        f"No run found with id '{run['id']}'.",
        "No thread found with id 'thread_0'.",
    ]


# Expiry


async def test_a_queued_run_expires(
    api: Api, model: ScriptedModel, clock: FrozenClock, server: Running
) -> None:
    blocking = asyncio.Event()
    model.waits(blocking, "Hello")
    talk, late = await api.talk(), await api.talk()
    await talk.run()
    run = await late.run()
    clock.advance(600)
    run = await late.until(run, "expired")
    assert run["expires_at"] == int(clock.now())
    assert run["usage"] == usage(0, 0)


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Json:
    limits: dict[str, Json] = {
        "test_a_queued_run_expires": {"runs": {"concurrency": 1}},
        "test_a_model_that_calls_tools_without_end_is_stopped": {"runs": {"max_turns": 3}},
    }
    return limits.get(request.node.originalname, {})


# Failing


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "invalid_prompt"])
async def test_what_the_model_reports_is_the_runs_error(
    api: Api, model: ScriptedModel, code: FailureCode, clock: FrozenClock
) -> None:
    model.fails(code, "A sentence.", after=["Hel"])
    talk = await api.talk()
    run = await talk.ask()
    assert run["status"] == "failed"
    assert run["last_error"] == {"code": code, "message": "A sentence."}
    assert run["failed_at"] == int(clock.now())
    (step,) = await talk.steps(run)
    shown = "server_error" if code == "invalid_prompt" else code
    assert step["last_error"] == {"code": shown, "message": "A sentence."}
    message = (await talk.messages())[-1]
    assert (text_of(message), message["status"]) == ("Hel", "incomplete")
    assert message["incomplete_details"] == {"reason": "run_failed"}


async def test_an_unknown_model_fails_the_run(api: Api) -> None:
    talk = await api.talk()
    run = await talk.ask(model="no-such-model")
    assert run["last_error"] == {
        "code": "server_error",
        "message": "The model 'no-such-model' does not exist.",
    }


async def test_a_broken_tool_says_nothing_of_its_inside(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    model.calls(("code_interpreter", "1"))
    tool.then(ZeroDivisionError("secret"))
    talk = await api.talk(tools=[CODE])
    text = await talk.transcript()
    assert '"Sorry, something went wrong."' in text
    assert "secret" not in text
    assert "ZeroDivision" not in text


async def test_a_model_that_breaks_its_promise_fails_the_run(
    api: Api, model: ScriptedModel
) -> None:
    talk = await api.talk()
    run = await talk.ask()  # nothing was scripted
    assert run["last_error"] == {
        "code": "server_error",
        "message": "Sorry, something went wrong.",
    }


class Unfinished(ScriptedModel):
    """Stops in the middle without an error."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        yield TextDelta("Hel")


async def test_a_model_that_stops_without_an_end_fails_the_run(
    api: Api, models: ScriptedModels
) -> None:
    models.model = Unfinished()
    talk = await api.talk()
    assert (await talk.ask())["last_error"]["message"] == "Sorry, something went wrong."


async def test_a_model_that_calls_tools_without_end_is_stopped(
    api: Api, model: ScriptedModel, tool: EchoTool
) -> None:
    for _ in range(3):
        model.calls(("code_interpreter", "1"))
    talk = await api.talk(tools=[CODE])
    run = await talk.ask()
    assert run["last_error"] == {
        "code": "server_error",
        "message": "The model called tools 3 times without an answer.",
    }
    assert len(tool.calls) == 3


# Usage and budgets


async def test_usage_is_that_of_the_turn_and_its_sum(api: Api, model: ScriptedModel) -> None:
    model.calls(("weather", "{}"), usage=Usage(100, 20, cached_tokens=50, reasoning_tokens=4))
    model.says("Sunny", usage=Usage(200, 10, cached_tokens=60, reasoning_tokens=1))
    talk = await api.talk(tools=[FUNCTION])
    run = await talk.ask()
    assert run["usage"] is None
    (step,) = await talk.steps(run)
    assert step["usage"] is None
    await talk.submit(run, "sunny")
    run = await talk.rested(run)
    assert run["usage"] == usage(300, 30, 110, 5)
    assert [step["usage"] for step in await talk.steps(run)] == [
        usage(100, 20, 50, 4),
        usage(200, 10, 60, 1),
    ]


async def test_tokens_are_counted_when_the_provider_does_not(
    api: Api, model: ScriptedModel
) -> None:
    model.plays("Hello", " world", RefusalDelta("No"), Finished("stop", None))
    talk = await api.talk("Hi there", instructions="Be brief.")
    run = await talk.ask()
    assert run["usage"] == usage(5, 4)


async def test_a_failed_run_reports_what_it_used(api: Api, model: ScriptedModel) -> None:
    model.calls(("code_interpreter", "1"))
    model.fails("server_error", "No.")
    talk = await api.talk(tools=[CODE])
    assert (await talk.ask())["usage"] == usage(10, 5)


async def test_a_completion_budget_is_for_all_turns_together(
    api: Api, model: ScriptedModel
) -> None:
    model.calls(("code_interpreter", "1"), usage=Usage(10, 300))
    model.calls(("code_interpreter", "2"), usage=Usage(10, 700))
    talk = await api.talk(tools=[CODE])
    run = await talk.ask(max_completion_tokens=1000)
    assert [request.max_completion_tokens for request in model.requests] == [1000, 700]
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert run["usage"] == usage(20, 1000)
    assert run["expires_at"] is None


async def test_a_prompt_budget_is_for_all_turns_together(api: Api, model: ScriptedModel) -> None:
    model.calls(("code_interpreter", "1"), usage=Usage(300, 10))
    talk = await api.talk(tools=[CODE])
    run = await talk.ask(max_prompt_tokens=300)
    assert (run["status"], len(model.requests)) == ("incomplete", 1)
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}


async def test_a_models_own_limit_cuts_the_answer(api: Api, model: ScriptedModel) -> None:
    model.says("Hel", reason="length")
    talk = await api.talk()
    run = await talk.ask()
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    message = (await talk.messages())[-1]
    assert (message["status"], text_of(message)) == ("incomplete", "Hel")
    assert message["incomplete_details"] == {"reason": "max_tokens"}


async def test_a_cut_refusal_is_kept(api: Api, model: ScriptedModel) -> None:
    model.plays("Well, ", RefusalDelta("I w"), Finished("length", None))
    talk = await api.talk()
    await talk.ask()
    message = (await talk.messages())[-1]
    assert [part["type"] for part in message["content"]] == ["text", "refusal"]
    assert text_of(message) == "Well, I w"


async def test_a_filtered_answer_fails_the_run(api: Api, model: ScriptedModel) -> None:
    model.says("Once upon", reason="content_filter")
    talk = await api.talk()
    run = await talk.ask()
    assert (run["status"], run["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert run["usage"] == usage(10, 5)
    message = (await talk.messages())[-1]
    assert message["incomplete_details"] == {"reason": "content_filter"}


# Messages that clients delete


async def test_a_message_is_not_deleted_while_it_is_written(api: Api, model: ScriptedModel) -> None:
    paused = asyncio.Event()
    model.plays("Hel", paused, "lo")
    talk = await api.talk()
    async with talk.streamed() as stream:
        message = (await stream.until("thread.message.created")).json
        path = f"{talk.path}/messages/{message['id']}"
        response = await api.call("DELETE", path)
        paused.set()
        await stream.until("thread.run.completed")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        f"Can't delete {message['id']} while run {message['run_id']} writes it."
    )
    await api.delete(path)
    assert await talk.said() == ["Hi"]


async def test_a_message_deleted_beside_calls_is_not_shown_to_the_model(
    api: Api, model: ScriptedModel
) -> None:
    model.says_then_calls(["Let me see."], ("weather", "{}"))
    model.says("Sunny")
    talk = await api.talk(tools=[FUNCTION])
    run = await talk.ask()
    message = (await talk.messages())[-1]
    await api.delete(f"{talk.path}/messages/{message['id']}")
    await talk.submit(run, "sunny")
    await talk.rested(run)
    texts = [getattr(message, "text", None) for message in model.requests[-1].messages]
    assert "Let me see." not in texts


# The table of moves


def test_an_illegal_move_is_refused() -> None:
    run = RunRow(id="run_1", status="completed")
    with pytest.raises(IllegalTransition, match="run_1: completed -> queued"):
        transition(run, "queued")


async def test_a_call_without_text_or_arguments_is_still_a_call(
    api: Api, model: ScriptedModel
) -> None:
    model.plays(ToolCallOpened(0, "call_1", "weather"), Finished("tool_calls", None))
    talk = await api.talk(tools=[FUNCTION])
    run = await talk.ask()
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": ""}
