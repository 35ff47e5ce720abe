"""The rules of a run's stream: whatever breaks one of them breaks an SDK."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

Json = dict[str, Any]
Event = tuple[str, Any]

MOVES = {
    "": {"created"},
    "created": {"queued"},
    "queued": {"in_progress", "cancelling", "cancelled", "expired", "failed"},
    "in_progress": {
        *("requires_action", "completed", "incomplete", "failed"),
        *("cancelling", "cancelled", "expired"),
    },
    "cancelling": {"cancelled", "completed", "incomplete", "failed", "expired"},
    "requires_action": {"queued"},
}
ENDS = frozenset({"requires_action", "completed", "incomplete", "failed", "cancelled", "expired"})
STEP_ENDS = frozenset({"completed", "failed", "cancelled", "expired"})
MESSAGE_ENDS = frozenset({"completed", "incomplete"})
FIRST = frozenset({"thread.created", "thread.run.created", "thread.run.step.completed"})
SENT_ONCE = frozenset({"id", "name", "output", "file_id", "quote"})
NOT_COMPARED = frozenset({"index", "quote", "file_search"})
FILLED_IN_LATER = frozenset({"detail", "output"})


EMPTY_TEXT: Json = {"type": "text", "text": {"value": "", "annotations": []}}


class Broken(Exception):
    """A rule."""


def require(kept: object, rule: str) -> None:
    if not kept:
        raise Broken(rule)


def check_order(events: Sequence[Event]) -> None:
    """A whole stream must keep the rules, from its first event to `done`. Raises AssertionError."""
    stream = Stream(following(events))
    for at, (name, data) in enumerate(events):
        try:
            stream.take(name, data)
        except Broken as rule:
            shown = "\n".join(f"  {name}" for name, _ in events[: at + 1])
            raise AssertionError(f"{rule}\n{shown}  <- here\n{data}") from None
    assert stream.closed, "a stream ends with done"


def following(events: Sequence[Event]) -> Iterator[str]:
    """The name of the event after each."""
    yield from (name for name, _ in events[1:])
    yield ""


@dataclass
class Writing:
    """A step or message that is in progress, and what its deltas add up to."""

    id: str
    kind: str = ""
    message_id: str = ""
    parts: list[Json] = field(default_factory=list[Json])


class Stream:
    """A stream as far as it was read."""

    def __init__(self, following: Iterator[str]) -> None:
        self.closed = False
        self._following = following
        self._next = ""
        self._awaited = FIRST
        self._status = ""
        self._run_id = ""
        self._ids: set[str] = set()
        self._step: Writing | None = None
        self._message: Writing | None = None

    def take(self, name: str, data: Any) -> None:
        require(not self.closed, "nothing follows done or error")
        self._next = next(self._following)
        if name == "error":
            self.closed = True
            return
        awaited, self._awaited = self._awaited, frozenset[str]()
        require(not awaited or name in awaited, f"expected {' or '.join(sorted(awaited))}")
        object_name, _, state = name.rpartition(".")
        match object_name, state:
            case "", "done":
                require(awaited, "done comes after the end of the run")
                self.closed = True
            case "thread", "created":
                require(awaited, "a thread is created first of all")
                self._awaited = frozenset({"thread.run.created"})
            case "thread.run", _:
                self._take_run(state, data)
            case "thread.run.step", "delta":
                self._take_step_delta(data)
            case "thread.run.step", _:
                self._take_step(state, data, first="thread.run.created" in awaited)
            case "thread.message", "delta":
                self._take_message_delta(data)
            case "thread.message", _:
                self._take_message(state, data)
            case _:
                raise Broken("there is no such event")
        if state == "in_progress" and object_name != "thread.run":
            require(awaited, "in_progress follows created at once")

    # Runs

    def _take_run(self, state: str, run: Json) -> None:
        require(state in MOVES.get(self._status, ()), f"a run that is {self._status or 'new'}")
        self._same_run(run["id"])
        status = "queued" if state == "created" else state
        require(run["status"] == status, f"the run's status is {status}")
        self._status = state
        if state == "created":
            self._awaited = frozenset({"thread.run.queued"})
        elif state in ENDS:
            self._end(state, run)

    def _end(self, state: str, run: Json) -> None:
        require(self._message is None, "messages are closed before the run")
        if state == "requires_action":
            step = self._step
            require(step is not None and step.kind == "tool_calls", "the tool step stays open")
            self._check_required(run)
        else:
            require(self._step is None, "steps are closed before the run")
        if state == "completed":
            require(run["usage"], "a completed run has its usage")
            require(run["expires_at"] is None, "a completed run does not expire")
        self._awaited = frozenset({"done"})

    def _check_required(self, run: Json) -> None:
        """What the client has to answer was streamed before, call by call."""
        assert self._step is not None
        calls: list[Json] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        require(calls, "there is a call to answer")
        declared = {tool["function"]["name"] for tool in run["tools"] if tool["type"] == "function"}
        functions = [part for part in self._step.parts if part["type"] == "function"]
        streamed = [part for part in functions if part["function"]["name"] in declared]
        check_agreement(streamed, calls)

    def _same_run(self, run_id: str) -> None:
        self._run_id = self._run_id or run_id
        require(run_id == self._run_id, "all events are of one run")

    # Steps

    def _take_step(self, state: str, step: Json, *, first: bool) -> None:
        self._same_run(step["run_id"])
        status = "in_progress" if state == "created" else state
        require(step["status"] == status, f"the step's status is {status}")
        if state == "created":
            self._open_step(step)
        elif first:
            self._take_answered_step(step)
        elif state != "in_progress":
            self._close_step(state, step)
        else:
            self._open(self._step, step["id"], "step")

    def _open_step(self, step: Json) -> None:
        require(self._status == "in_progress", "steps begin while the run is in_progress")
        require(self._step is None, "one step at a time")
        self._new(step["id"])
        details = step["step_details"]
        require(not details.get("tool_calls"), "a tool step begins without calls")
        message_id = details.get("message_creation", {}).get("message_id", "")
        self._step = Writing(step["id"], details["type"], message_id)
        self._awaited = frozenset({"thread.run.step.in_progress"})

    def _take_answered_step(self, step: Json) -> None:
        """The stream of `submit_tool_outputs` begins with the step that an earlier stream opened."""
        calls: list[Json] = step["step_details"].get("tool_calls", [])
        functions = [call["function"] for call in calls if call["type"] == "function"]
        require(functions, "the step has calls of functions")
        answered = all(function["output"] is not None for function in functions)
        require(answered, "the outputs are filled in")
        self._ids.add(step["id"])
        self._status = "requires_action"
        self._awaited = frozenset({"thread.run.queued"})

    def _take_step_delta(self, data: Json) -> None:
        step = self._open(self._step, data["id"], "step")
        require("id" not in data["delta"], "a delta has no id of its own")
        require(step.kind == "tool_calls", "only tool steps have deltas")
        merge(step.parts, data["delta"]["step_details"]["tool_calls"])

    def _close_step(self, state: str, step: Json) -> None:
        require(state in STEP_ENDS, "there is no such event")
        writing = self._open(self._step, step["id"], "step")
        require(self._message is None, "the message is closed before its step")
        if state == "completed":
            require(step["usage"], "a completed step has its usage")
            self._check_written(writing, step["step_details"])
        self._step = None

    def _check_written(self, writing: Writing, details: Json) -> None:
        if writing.kind == "message_creation":
            require(writing.message_id in self._ids, "the step's message was written")
            return
        calls: list[Json] = details["tool_calls"]
        # The calls of a turn that was cut by the token budget are dropped: their arguments are no JSON.
        if calls or self._next != "thread.run.incomplete":
            check_agreement(writing.parts, calls)

    # Messages

    def _take_message(self, state: str, message: Json) -> None:
        self._same_run(message["run_id"])
        status = "in_progress" if state == "created" else state
        require(message["status"] == status, f"the message's status is {status}")
        if state == "created":
            self._open_message(message)
            return
        writing = self._open(self._message, message["id"], "message")
        if state != "in_progress":
            require(state in MESSAGE_ENDS, "there is no such event")
            check_agreement(writing.parts, message["content"])
            self._message = None

    def _open_message(self, message: Json) -> None:
        require(self._message is None, "one message at a time")
        self._new(message["id"])
        expected = self._step.message_id if self._step else ""
        require(message["id"] == expected, "a message is written in the step that names it")
        require(message["content"] == [], "a message begins empty")
        self._message = Writing(message["id"])
        self._awaited = frozenset({"thread.message.in_progress"})

    def _take_message_delta(self, data: Json) -> None:
        message = self._open(self._message, data["id"], "message")
        merge(message.parts, data["delta"]["content"])
        for part in message.parts:
            if part["type"] == "text":
                require("value" in part.get("text", {}), "the first delta of a text has a value")

    # Both

    def _new(self, object_id: str) -> None:
        require(object_id not in self._ids, "an id is created once")
        self._ids.add(object_id)

    def _open(self, writing: Writing | None, object_id: str, noun: str) -> Writing:
        if writing is None or writing.id != object_id:
            raise Broken(f"this {noun} is not open")
        return writing


def merge(parts: list[Json], entries: Sequence[Any]) -> None:
    """Add the entries of a delta to those with the same index, as the SDKs do."""
    for entry in entries:
        index = cast("Json", entry).get("index") if isinstance(entry, dict) else None
        if not isinstance(index, int) or isinstance(index, bool):
            raise Broken("each entry of a delta has an integer index")
        require(index <= len(parts), "a new entry has the next index")
        if index == len(parts):
            parts.append({})
        grow(parts[index], cast("Json", entry))


def grow(whole: Json, delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key in {"index", "type"}:
            require(whole.setdefault(key, value) == value, f"the {key} of an entry stays")
        elif isinstance(value, list):
            merge(whole.setdefault(key, []), cast("list[Any]", value))
        elif isinstance(value, dict):
            grow(whole.setdefault(key, {}), cast("Json", value))
        else:
            repeats = key in SENT_ONCE or not isinstance(value, str)
            require(not (repeats and key in whole), f"{key} is sent once: SDKs add it up")
            whole[key] = whole[key] + value if key in whole else value


def check_agreement(streamed: list[Json], final: list[Json]) -> None:
    for difference in differences(streamed, final, ""):
        raise Broken(f"the deltas add up to something else: {difference}")


def differences(streamed: Any, final: Any, path: str) -> Iterator[str]:
    if isinstance(streamed, dict) and isinstance(final, dict):
        yield from differing_keys(cast("Json", streamed), cast("Json", final), path)
    elif isinstance(streamed, list) and isinstance(final, list):
        yield from differing_entries(cast("list[Any]", streamed), cast("list[Any]", final), path)
    elif streamed != final:
        yield f"{path}: {streamed!r} became {final!r}"


def differing_keys(streamed: Json, final: Json, path: str) -> Iterator[str]:
    for key, value in streamed.items():
        if key not in NOT_COMPARED and value is not None:
            yield from differences(value, final.get(key), f"{path}.{key}")
    for key, value in final.items():
        if key not in streamed and key not in FILLED_IN_LATER and value:
            yield f"{path}.{key} was never streamed"


def differing_entries(streamed: list[Any], final: list[Any], path: str) -> Iterator[str]:
    if len(streamed) > len(final):
        yield f"{path} lost an entry"
    for index, entry in enumerate(final):
        if index < len(streamed):
            yield from differences(streamed[index], entry, f"{path}[{index}]")
        elif entry != EMPTY_TEXT:
            yield f"{path}[{index}] was never streamed"
