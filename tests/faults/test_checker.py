"""The checker finds every kind of violation in a history that was doctored, and nothing in one that was not."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.faults.checker import check
from tests.faults.final import Final, Row
from tests.faults.history import (
    Call,
    Entry,
    Expected,
    Fault,
    History,
    Json,
    Request,
    Sample,
    StreamEnd,
    Told,
    read_history,
)

THREAD, RUN, MESSAGE, STEP = (f"{kind}_{'a' * 24}" for kind in ("thread", "run", "msg", "step"))
OTHER_RUN, FILE = f"run_{'b' * 24}", f"file-{'a' * 24}"
PATH = f"/threads/{THREAD}/runs/{RUN}"
TEXT: list[Json] = [{"type": "text", "text": {"value": "Hello", "annotations": []}}]


def run(status: str, run_id: str = RUN) -> Json:
    return {"id": run_id, "object": "thread.run", "thread_id": THREAD, "status": status}


def message(status: str, content: list[Json]) -> Json:
    return {"id": MESSAGE, "object": "thread.message", "status": status, "content": content}


def delta(text: str) -> Json:
    return {"id": MESSAGE, "delta": {"content": [{"index": 0, "text": {"value": text}}]}}


def answered(method: str, path: str, began: float, answer: Json, status: int = 200) -> Request:
    return Request("c1", "a", method, path, None, began, began + 0.1, status, answer)


EVENTS: tuple[tuple[str, Json], ...] = (
    ("thread.run.created", run("queued")),
    ("thread.run.queued", run("queued")),
    ("thread.run.in_progress", run("in_progress")),
    ("thread.run.step.created", {"id": STEP}),
    ("thread.message.created", message("in_progress", [])),
    ("thread.message.delta", delta("Hel")),
    ("thread.message.delta", delta("lo")),
    ("thread.message.completed", message("completed", TEXT)),
    ("thread.run.step.completed", {"id": STEP}),
    ("thread.run.completed", run("completed")),
)


class World:
    """One run that went well, to be doctored."""

    def __init__(self) -> None:
        self.entries: list[Entry] = [
            answered("POST", "/threads", 1, {"id": THREAD, "object": "thread"}),
            answered("POST", f"/threads/{THREAD}/runs", 2, run("queued")),
            *(
                Told("c1", "a", RUN, 3, (1, seq), name, data)
                for seq, (name, data) in enumerate(EVENTS, 1)
            ),
            StreamEnd("c1", RUN, 4, "done"),
            Call("Say hello #t1", 2.5, 3, answered=True),
            Expected(RUN, ("Hello",), 0),
            answered("GET", PATH, 5, run("completed")),
            Sample("worker-a", 5, 1 << 20),
        ]
        self.final = Final(
            threads=[{"id": THREAD, "metadata": {"token": "t0"}}],
            runs=[self.row(RUN)],
            messages=[{**message("completed", TEXT), "run_id": RUN}],
            run_steps=[
                {
                    "id": STEP,
                    "run_id": RUN,
                    "status": "completed",
                    "type": "message_creation",
                    "step_details": {"message_creation": {"message_id": MESSAGE}},
                    "heard": {},
                }
            ],
            events=[
                {
                    "run_id": RUN,
                    "epoch": 1,
                    "seq": seq,
                    "name": name,
                    "data": orjson.dumps(data).decode(),
                }
                for seq, (name, data) in enumerate(EVENTS, 1)
            ],
            files=[{"id": FILE, "filename": "one.txt", "blobs": ["aa/1"]}],
            objects=frozenset({"aa/1"}),
            at=100.0,
        )

    def row(self, run_id: str, **changed: Any) -> Row:
        row = {
            **run("completed", run_id),
            "seq": 1,
            "epoch": 1,
            "metadata": {"token": "t1"},
            "created_at": 1,
            "completed_at": 5,
            "failed_at": None,
            "expires_at": None,
        }
        return row | changed

    @property
    def history(self) -> History:
        history = History()
        history.entries = self.entries
        return history

    def found(self) -> set[str]:
        return {violation.invariant for violation in check(self.history, self.final)}

    def without(self, kind: type[Entry], name: str) -> None:
        """Streams and polls that lack something."""
        self.entries = [e for e in self.entries if not (isinstance(e, kind) and name in str(e))]


Doctor = Callable[[World], object]


def add(*entries: Entry) -> Doctor:
    return lambda world: world.entries.extend(entries)


def change_run(**changed: Any) -> Doctor:
    return lambda world: world.final.runs[0].update(changed)


def change_event(at: int, **changed: Any) -> Doctor:
    return lambda world: world.final.events[at].update(changed)


def lose(table: str) -> Doctor:
    return lambda world: getattr(world.final, table).clear()


def double(table: str) -> Doctor:
    def copy_first(world: World) -> None:
        rows = getattr(world.final, table)
        rows.append(copy.deepcopy(rows[0]) | {"id": "another"})

    return copy_first


def second_run_beside_it(world: World) -> None:
    world.final.runs.append(world.row(OTHER_RUN, seq=2, metadata={}))
    world.entries += [
        answered("POST", f"/threads/{THREAD}/runs", 2.2, run("queued", OTHER_RUN)),
        answered("GET", PATH, 2.6, run("in_progress")),
    ]


def lost_output(world: World) -> None:
    outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "sunny"}]}
    path = f"{PATH}/submit_tool_outputs"
    world.entries.append(Request("c1", "a", "POST", path, outputs, 3, 3.1, 200, run("queued")))


def changed_bytes(world: World) -> None:
    upload = Request("c1", "a", "POST", "/files", {"sha256": "1"}, 3, 3.1, 200, {"id": FILE})
    content = answered("GET", f"/files/{FILE}/content", 4, {"sha256": "2"})
    world.entries += [upload, content]


def resurrected(world: World) -> None:
    world.entries.append(answered("DELETE", f"/threads/{THREAD}", 9, {"deleted": True}))


CALL = Call("Say hello #t1", 2.6, 40, answered=False)
REFUSAL = {"error": {"message": "Not yours."}}

CASES: dict[str, tuple[str, Doctor]] = {
    "a 500": ("I0", add(answered("GET", "/files", 9, {}, 500))),
    "a 503 that does not say when": ("I0", add(answered("GET", "/files", 9, {}, 503))),
    "a thread is gone": ("I1", lose("threads")),
    "a run is gone": ("I1", lose("runs")),
    "a tool's output is gone": ("I1", lost_output),
    "a file has other bytes": ("I1", changed_bytes),
    "what was deleted is back": ("I1", resurrected),
    "a run stands still": ("I2", change_run(status="in_progress")),
    "a run takes longer than it may": ("I2", change_run(completed_at=1_000)),
    "a run expires at once": ("I2", change_run(status="expired", expires_at=600)),
    "a file stands still": (
        "I2",
        lambda world: world.final.vector_store_files.append(
            {"id": "vs_1/x", "status": "in_progress"}
        ),
    ),
    "two runs of a thread": ("I3", second_run_beside_it),
    "the model was asked without a claim": (
        "I4",
        add(Call("Say hello #t1", 2.5, 3, answered=True)),
    ),
    "two workers for long": ("I4", add(CALL, Call("Say hello #t1", 3, 40, answered=False))),
    "a thread of one request twice": ("I5", double("threads")),
    "a file twice": ("I5", double("files")),
    "a message twice": ("I5", double("messages")),
    "a tool was called": ("I5", lambda world: world.entries.append(Expected(RUN, None, 1))),
    "another text": ("I5", lambda world: world.entries.append(Expected(RUN, ("Hullo",), 0))),
    "a chunk twice": (
        "I5",
        lambda world: world.final.chunks.extend([{"store_file_seq": 1, "position": 1}] * 2),
    ),
    "a skipped state": ("I6", lambda world: world.final.events.pop(2)),
    "a terminal state that changes": ("I6", add(answered("GET", PATH, 9, run("in_progress")))),
    "a silent end": ("I7", add(StreamEnd("c1", RUN, 9, "silent"))),
    "an event that was not streamed": ("I7", lambda world: world.without(Told, "step.created")),
    "an event that is not stored": ("I7", lambda world: world.final.events.pop(5)),
    "a delta with other words": ("I7", change_event(5, data=orjson.dumps(delta("Hul")).decode())),
    "a stream without its message": ("I7", lambda world: world.final.messages.clear()),
    "a stream without its deltas": ("I7", lambda world: world.without(Told, "message.delta")),
    "an event twice": ("I7", add(Told("c1", "a", RUN, 9, (1, 9), EVENTS[8][0], {"id": STEP}))),
    "a stranger's list": (
        "I8",
        add(Request("c2", "b", "GET", "/runs", None, 9, 9.1, 200, {"data": [run("completed")]})),
    ),
    "a stranger's stream": ("I8", add(Told("c2", "b", RUN, 9, (1, 1), *EVENTS[0]))),
    "a telling refusal": ("I8", add(answered("GET", PATH, 9, REFUSAL, 404))),
    "memory without end": ("I9", add(Sample("worker-a", 9, 1 << 40))),
    "bytes that nobody knows": (
        "I9",
        lambda world: setattr(world.final, "objects", frozenset({"aa/1", "bb/2"})),
    ),
    "bytes that are gone": (
        "I9",
        lambda world: setattr(world.final, "objects", frozenset[str]()),
    ),
}


def test_what_went_well_is_no_violation() -> None:
    assert check(World().history, World().final) == []


@pytest.mark.parametrize("name", CASES)
def test_a_violation_is_found(name: str) -> None:
    invariant, doctor = CASES[name]
    world = World()
    doctor(world)
    assert invariant in world.found()


def test_a_frozen_worker_is_no_second_executor() -> None:
    world = World()
    add(CALL, Call("Say hello #t1", 3, 40, answered=False), Fault("freeze", "worker-a", 2.7))(world)
    assert world.found() == set()


def test_what_somebody_deleted_may_be_gone() -> None:
    world = World()
    world.entries.append(
        Request("c1", "a", "DELETE", f"/threads/{THREAD}", None, 9, 9.1, None, None)
    )
    for table in ("threads", "runs", "messages", "run_steps"):
        lose(table)(world)
    world.final.events.clear()
    assert world.found() == set()


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    world = World()
    written = History(tmp_path / "history.jsonl")
    for entry in world.entries:
        written.add(entry)
    written.close()
    assert read_history(tmp_path / "history.jsonl").entries == world.entries
