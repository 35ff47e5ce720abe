"""Anything that clients, time and lost workers may do to one thread, in any order: what must hold holds."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.runs.driver import (
    CODE,
    FUNCTION,
    RESTING,
    Api,
    Json,
    Sse,
    Talk,
    answers,
    parsed_all,
    parts_of,
    streamed_parts,
)
from tests.support.server import Running, running_server
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.llm.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    ModelError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallOpened,
)
from threadloom.runs.states import TRANSITIONS
from threadloom.runs.tools import ToolResult
from threadloom.testing import EchoTool, FrozenClock, ScriptedModel, ScriptedModels, SequentialIds
from threadloom.testing.model import USAGE
from threadloom.worker import Worker

T = TypeVar("T")
LEASE, LIFE = 15, 600
PLANS = ("text", "function", "tool", "both", "fail", "length", "hang")
MOVES: dict[str, set[str]] = {before: {*after} for before, after in TRANSITIONS.items()}
TERMINAL = RESTING - {"requires_action"}


class Improviser(ScriptedModel):
    """Follows a plan as long as there is one, then says something."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: list[str] = []
        self.gate = asyncio.Event()
        self.hanging = 0
        self._calls = 0

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        kind = self.plan.pop(0) if self.plan else "text"
        if kind not in ("function", "tool"):
            yield TextDelta("So")
        if kind == "hang":
            await self._hang()
        if kind == "fail":
            raise ModelError("server_error", "It failed.")
        calls = {"function": ["weather"], "tool": ["code_interpreter"]}
        both = ["code_interpreter", "weather"] if kind == "both" else []
        for index, name in enumerate(calls.get(kind, both)):
            self._calls += 1
            yield ToolCallOpened(index, f"call_{self._calls}", name)
            yield ToolCallDelta(index, "{}")
        yield TextDelta(" what?")
        yield Finished("length" if kind == "length" else "stop", USAGE)

    async def _hang(self) -> None:
        self.hanging += 1
        try:
            await self.gate.wait()
        finally:
            self.hanging -= 1

    async def release(self) -> None:
        self.gate.set()
        self.gate = asyncio.Event()


class Painter(EchoTool):
    """Shows a picture for each call, and none twice."""

    async def run(self, run: RunRow, call: ToolCall, room: int) -> ToolResult:
        self.then([{"type": "image", "image": {"file_id": f"file-{len(self.calls)}"}}])
        return await super().run(run, call, room)


@dataclass
class Stage:
    """A server, and the loop it runs on."""

    loop: asyncio.AbstractEventLoop
    server: Running
    api: Api
    model: Improviser
    clock: FrozenClock
    tool: Painter

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """From Hypothesis's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def worker(self) -> asyncio.Task[None]:
        """A worker at work; to cancel it is to kill it."""
        running = self.server
        worker = Worker(
            running.database,
            running.context.feed,
            ScriptedModels(self.model),
            running.context.settings.runs,
            {self.tool.name: self.tool},
        )
        return self.loop.create_task(worker.run())


def reachable(status: str) -> set[str]:
    found, new = {status}, {status}
    while new := {to for one in new for to in MOVES.get(one, ())} - found:
        found |= new
    return found


@dataclass
class Seen:
    """What was seen of one run."""

    last: Json

    def look(self, run: Json) -> None:
        assert run["status"] in reachable(self.last["status"])
        if self.last["status"] in TERMINAL:
            assert run | {"metadata": {}} == self.last | {"metadata": {}}
        self.last = run


class RunMachine(RuleBasedStateMachine):
    """One thread."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        stage = self.stage
        self.model = stage.model
        self.model.plan = []
        self.talk: Talk = stage.do(stage.api.talk("Hi", tools=[CODE, FUNCTION]))
        self.runs: dict[str, Seen] = {}
        self.deleted: set[str] = set()
        self.silenced: set[str] = set()
        """Runs of deleted messages: if they had ended, their events went with the message."""
        self.worker = stage.do(stage.worker())

    # What clients do

    @rule(plan=st.lists(st.sampled_from(PLANS), min_size=1, max_size=3))
    def create(self, plan: list[str]) -> None:
        active = self._active()
        path, body = f"{self.talk.path}/runs", {"assistant_id": self.talk.assistant}
        response = self._call("POST", path, body)
        if response.status_code == 200:
            self.model.plan = list(plan)
            self.runs[response.json()["id"]] = Seen(response.json())
        else:
            assert active
            assert "already has an active run" in response.json()["error"]["message"]

    @rule()
    def poll(self) -> None:
        self._active()

    @precondition(lambda self: self.runs)
    @rule(right=st.booleans())
    def submit(self, right: bool) -> None:
        run = self._newest()
        asked = run["status"] == "requires_action"
        count = len(run["required_action"]["submit_tool_outputs"]["tool_calls"]) if asked else 0
        nothing: Json = {"tool_outputs": []}
        body = answers(run, *["fine"] * count) if asked and right else nothing
        path = f"{self.talk.run_path(run)}/submit_tool_outputs"
        response = self._call("POST", path, body)
        if response.status_code != 200:
            message = response.json()["error"]["message"]
            assert "do not accept tool outputs" in message or "Expected tool outputs" in message

    @precondition(lambda self: self.runs)
    @rule()
    def cancel(self) -> None:
        before = self._newest()
        response = self._call("POST", f"{self.talk.run_path(before)}/cancel")
        if response.status_code == 200:
            self._seen(response.json())
        else:
            after = self._newest()
            assert after["status"] in TERMINAL | {"cancelling"}

    @precondition(lambda self: self.runs)
    @rule()
    def modify(self) -> None:
        path = self.talk.run_path(self._newest())
        assert self._call("POST", path, {"metadata": {"a": "1"}}).status_code == 200

    @rule()
    def say(self) -> None:
        active = self._active()
        body = {"role": "user", "content": "And?"}
        response = self._call("POST", f"{self.talk.path}/messages", body)
        if response.status_code != 200:
            assert active
            assert "Can't add messages" in response.json()["error"]["message"]

    @rule()
    def delete_message(self) -> None:
        newest = self.stage.do(self.talk.messages())[-1]
        if newest["role"] == "user":
            return
        response = self._call("DELETE", f"{self.talk.path}/messages/{newest['id']}")
        if response.status_code == 200:
            self.deleted.add(newest["id"])
            self.silenced.add(newest["run_id"])

    # What happens to them

    @rule(seconds=st.sampled_from([5, LEASE + 1, LIFE + 1]))
    def wait(self, seconds: int) -> None:
        self.stage.clock.advance(seconds)

    @rule()
    def release(self) -> None:
        self.stage.do(self.model.release())

    @rule()
    def settle(self) -> None:
        self.stage.do(self._settle())

    @rule()
    def crash(self) -> None:
        self.stage.do(self._kill())
        self.stage.clock.advance(LEASE + 1)
        self.worker = self.stage.do(self.stage.worker())

    def teardown(self) -> None:
        self.model.plan = []
        self.stage.do(self._end())
        self.stage.do(self._kill())

    # Looking

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        return self.stage.do(self.stage.api.call(method, path, body))

    def _newest(self) -> Json:
        return self._seen(self.stage.do(self.stage.api.get(self.talk.run_path([*self.runs][-1]))))

    def _seen(self, run: Json) -> Json:
        self.runs[run["id"]].look(run)
        return run

    def _active(self) -> list[str]:
        """The active runs: one at most."""
        listed = self.stage.do(self.stage.api.get(f"{self.talk.path}/runs?limit=100"))["data"]
        assert {run["id"] for run in listed} == set(self.runs)
        active = [run["id"] for run in map(self._seen, listed) if run["status"] not in TERMINAL]
        assert len(active) <= 1
        return active

    # Ending

    async def _kill(self) -> None:
        self.worker.cancel()
        await asyncio.wait([self.worker])
        # A claim that was under way is done before time goes on, or its lease would begin after the crash.
        write = self.stage.server.database.write
        await asyncio.gather(*(write(Tx.wake, "nobody") for _ in range(8)))

    async def _settle(self) -> None:
        """Until nobody works: the model hangs, or the client is asked, or all is over."""
        for run in self.runs:
            while not self.model.hanging:
                now = await self.stage.api.get(self.talk.run_path(run))
                if self._seen(now)["status"] in RESTING:
                    break

    async def _end(self) -> None:
        for run in self.runs:
            while (now := await self.stage.api.get(self.talk.run_path(run)))[
                "status"
            ] not in TERMINAL:
                await self.model.release()
                if now["status"] == "requires_action":
                    await self.stage.api.call("POST", f"{self.talk.run_path(run)}/cancel")
            self._seen(now)
            await self._check(now)

    async def _check(self, run: Json) -> None:
        events = await self._events(run)
        if events:
            statuses = [
                event.json["status"] for event in events if event.json["object"] == "thread.run"
            ]
            for before, after in pairwise(statuses[1:]):
                assert after in MOVES[before]
            assert statuses[-1] == run["status"]
        await self._check_messages(run, events)

    async def _check_messages(self, run: Json, events: list[Sse]) -> None:
        """Each message is what was streamed of it, if that is still known, and belongs to one step."""
        streamed = streamed_parts(events)
        messages = [one for one in await self.talk.messages() if one["run_id"] == run["id"]]
        for message in messages:
            assert message["status"] in ("completed", "incomplete")
            assert not events or parts_of(message) == streamed.get(message["id"], [])
        steps = await self.talk.steps(run)
        assert "in_progress" not in {step["status"] for step in steps}
        written = [message_of(step) for step in steps if step["type"] == "message_creation"]
        assert len(written) == len(set(written))
        assert {message["id"] for message in messages} <= set(written)
        missing = set(written) - {message["id"] for message in messages} - self.deleted
        assert missing <= withdrawn(steps)
        shown = [
            one for message in messages for one in parts_of(message) if one.startswith("file-")
        ]
        drawn = [one for step in steps for one in pictures_of(step)]
        whole = run["status"] == "completed" and not self.deleted & set(written)
        assert shown == drawn if whole else set(shown) <= set(drawn)
        assert len(shown) == len(set(shown))

    async def _events(self, run: Json) -> list[Sse]:
        events: list[Sse] = []
        while not events or events[-1].json.get("status") not in TERMINAL:
            after = events[-1].id if events else None
            text = await self.talk.events(run, after)
            told = [event for event in parsed_all(text) if event.name != "done"]
            if not told and run["id"] in self.silenced:
                return []
            events += told
        return events


def message_of(step: Json) -> str:
    return step["step_details"]["message_creation"]["message_id"]


def pictures_of(step: Json) -> list[str]:
    """The pictures of a step's calls."""
    calls = step["step_details"].get("tool_calls", [])
    outputs = (call["code_interpreter"]["outputs"] for call in calls if "code_interpreter" in call)
    return [one["image"]["file_id"] for each in outputs for one in each]


def withdrawn(steps: list[Json]) -> set[str]:
    """Messages of lost turns: their step failed with its worker, or the one after it did."""
    lost = {
        number
        for number, step in enumerate(steps)
        if step["last_error"] and "worker was lost" in step["last_error"]["message"]
    }
    return {
        message_of(step)
        for number, step in enumerate(steps)
        if step["type"] == "message_creation" and {number, number + 1} & lost
    }


async def test_whatever_happens_to_a_thread_its_runs_end_and_say_what_is_stored(
    database_url: str,
) -> None:
    """Hypothesis is synchronous: it plays in a thread and hands its work to the server's loop."""
    model, clock, tool = Improviser(), FrozenClock(), Painter()
    async with (
        running_server(
            database_url, ScriptedModels(model), clock=clock, ids=SequentialIds(), with_worker=False
        ) as server,
        server.http() as http,
    ):
        stage = Stage(asyncio.get_running_loop(), server, Api(http), model, clock, tool)
        staged = type("StagedRunMachine", (RunMachine,), {"stage": stage})
        await asyncio.to_thread(run_state_machine_as_test, staged, settings=LIMITS)


LIMITS = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
