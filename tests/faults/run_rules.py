"""What happens to runs: I2 to I6."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby, pairwise

from tests.faults.case import TERMINAL, Case, messages_by_run, polls_of, token_of
from tests.faults.client import text_of
from tests.faults.final import Row
from tests.faults.history import Call, Expected, Fault

MOVES: dict[str, frozenset[str]] = {
    "created": frozenset({"queued"}),
    "queued": frozenset({"in_progress", "cancelling", "expired"}),
    "in_progress": frozenset(
        {"requires_action", "cancelling", "completed", "incomplete", "failed", "expired"}
    ),
    "requires_action": frozenset({"queued", "cancelling", "expired"}),
    "cancelling": frozenset({"cancelled"}),
}
RUN_STATUS = re.compile(r"thread\.run\.(?!step\.)(\w+)")


def stuck(case: Case) -> Iterator[str]:
    for run in case.final.runs:
        waits = run["status"] == "requires_action" and case.final.at < run["expires_at"] + 5
        if run["status"] not in TERMINAL and not waits:
            yield f"{run['id']} is {run['status']} in the end"
        ends = [run[name] for name in ("completed_at", "failed_at") if run[name]]
        if ends and ends[0] > run["created_at"] + case.bounds.expires_after + 5:
            yield f"{run['id']} outlived its time"
        if run["status"] == "expired" and case.final.at < run["expires_at"]:
            yield f"{run['id']} expired before its time"
    for row in case.final.vector_store_files:
        if row["status"] == "in_progress":
            yield f"file {row['id']} is in progress in the end"


def side_by_side(case: Case) -> Iterator[str]:
    active = Counter(run["thread_id"] for run in case.final.runs if run["status"] not in TERMINAL)
    for thread_id, count in active.items():
        if count > 1:
            yield f"{thread_id} has {count} active runs in the end"
    order = {run["id"]: run["seq"] for run in case.final.runs}
    created: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for request, answer in case.acknowledged:
        if request.path.endswith("/runs") and answer["id"] in order:
            created[answer["thread_id"]].append((request.ended, answer["id"]))
    for run_id, polls in polls_of(case.history).items():
        for request, run in polls:
            followers = created[run["thread_id"]] if run["status"] not in TERMINAL else ()
            for at, other in followers:
                if at < request.began and order[other] > order.get(run_id, order[other]):
                    yield f"{run_id} is {run['status']} while {other} is there already"


def executors(case: Case) -> Iterator[str]:
    """Nobody asks the model who has not claimed the run, and a lost lease's holder stops in its time."""
    attempts = {token: run["epoch"] for run in case.final.runs if (token := token_of(run))}
    frozen = [fault.at for fault in case.history.of(Fault) if fault.nemesis == "freeze"]
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in case.history.of(Call):
        calls[call.text].append(call)
    for text, made in calls.items():
        token = text.rpartition("#")[2]
        answered = sum(call.answered for call in made)
        if token in attempts and answered > attempts[token]:
            yield f"the model answered {answered} times for {text!r} in {attempts[token]} claims"
        for earlier, later in pairwise(sorted(made, key=lambda call: call.began)):
            beside = min(earlier.ended, later.ended) - later.began
            excused = any(earlier.began < at < earlier.ended for at in frozen)
            if beside > case.bounds.lease + 5 and not excused:
                yield f"two workers asked for {text!r} at once, for {beside:.1f} s"


def twice(case: Case) -> Iterator[str]:
    for name in ("assistants", "threads", "messages", "runs", "vector_stores", "files"):
        rows = getattr(case.final, name)
        tokens = Counter(row.get("filename") or token_of(row) for row in rows)
        for token, count in tokens.items():
            if token and count > 1:
                yield f"{count} {name} of the one request {token}"
    chunks = Counter((row["store_file_seq"], row["position"]) for row in case.final.chunks)
    yield from (f"chunk {place} is there twice" for place, n in chunks.items() if n > 1)
    by_run = messages_by_run(case.final)
    steps: dict[str, list[Row]] = defaultdict(list)
    for step in case.final.run_steps:
        if step["status"] == "completed":
            steps[step["run_id"]].append(step)
    expected = {one.run_id: one for one in case.history.of(Expected)}
    for run in case.final.runs:
        if run["status"] == "completed":
            done = steps[run["id"]]
            yield from effects(run["id"], by_run[run["id"]], done, expected.get(run["id"]))


def effects(
    run_id: str, messages: list[Row], steps: list[Row], expected: Expected | None
) -> Iterator[str]:
    """A completed run's messages are those its steps made, and what was expected of it."""
    made = [
        step["step_details"]["message_creation"]["message_id"]
        for step in steps
        if step["type"] == "message_creation"
    ]
    if made != [message["id"] for message in messages]:
        yield f"{run_id} has {len(messages)} messages of {len(made)} steps"
    if expected is None:
        return
    called = sum(step["type"] == "tool_calls" for step in steps)
    if called != expected.tool_steps:
        yield f"{run_id} called tools {called} times, not {expected.tool_steps}"
    texts = tuple(map(text_of, messages))
    if expected.texts is not None and texts != expected.texts:
        yield f"{run_id} says {texts}, not {expected.texts}"


def moves(case: Case) -> Iterator[str]:
    for run_id, rows in groupby(case.final.events, key=lambda row: row["run_id"]):
        statuses = [found[1] for row in rows if (found := RUN_STATUS.fullmatch(row["name"]))]
        for before, after in pairwise(statuses):
            if after not in MOVES.get(before, ()):
                yield f"{run_id} went from {before} to {after}"
    for run_id, polls in polls_of(case.history).items():
        in_order = sorted(polls, key=lambda poll: poll[0].ended)
        for (one, before), (other, after) in pairwise(in_order):
            if one.ended < other.began and after["status"] not in reachable(before["status"]):
                yield f"{run_id} was {before['status']} and then {after['status']}"
        stored = [run for run in case.final.runs if run["id"] == run_id]
        if in_order and stored and stored[0]["status"] not in reachable(in_order[-1][1]["status"]):
            yield f"{run_id} was {in_order[-1][1]['status']} and is {stored[0]['status']}"


def reachable(status: str) -> set[str]:
    """Where a run may be that was seen in this status."""
    found = {status}
    while more := {to for one in found for to in MOVES.get(one, ())} - found:
        found |= more
    return found
