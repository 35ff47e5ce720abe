"""The checker finds every kind of violation in a history that was doctored, and nothing in one that was not."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.faults.checker import check
from tests.faults.final import Final, Row
from tests.faults.history import (
    Call,
    Delivery,
    Entry,
    Expected,
    Fault,
    History,
    Json,
    Request,
    Sample,
    Stock,
    StreamEnd,
    Told,
    read_history,
)

THREAD, RUN, MESSAGE, STEP = (f"{kind}_{'a' * 24}" for kind in ("thread", "run", "msg", "step"))
OTHER_RUN, FILE = f"run_{'b' * 24}", f"file-{'a' * 24}"
STORE = f"vs_{'a' * 24}"
PATH = f"/threads/{THREAD}/runs/{RUN}"
FILE_PATH = f"/vector_stores/{STORE}/files/{FILE}"
TEXT: list[Json] = [{"type": "text", "text": {"value": "Hello", "annotations": []}}]


def run(status: str, run_id: str = RUN) -> Json:
    return {"id": run_id, "object": "thread.run", "thread_id": THREAD, "status": status}


def message(status: str, content: list[Json]) -> Json:
    return {"id": MESSAGE, "object": "thread.message", "status": status, "content": content}


def delta(text: str) -> Json:
    return {"id": MESSAGE, "delta": {"content": [{"index": 0, "text": {"value": text}}]}}


def answered(method: str, path: str, began: float, answer: Json, status: int = 200) -> Request:
    return Request("c1", "a", method, path, None, began, began + 0.1, status, answer)


def sent(event_id: str, about: str, at: float, **changed: Any) -> Delivery:
    """A webhook of the run, or of the file in a vector store."""
    kind, data = ABOUT[about]
    delivery = Delivery("a", at, event_id, kind, data, genuine=True, taken=True)
    return replace(delivery, **changed)


def delivery(seq: int, subject: str, about: str, **changed: Any) -> Row:
    row = {"seq": seq, "event_id": f"evt_{seq}", "subject": subject, "type": ABOUT[about][0]}
    return {**row, "status": "delivered", "epoch": 1, "error": None, **changed}


ABOUT: dict[str, tuple[str, Json]] = {
    "queued": ("thread.run.queued", {"id": RUN, "thread_id": THREAD}),
    "in_progress": ("thread.run.in_progress", {"id": RUN, "thread_id": THREAD}),
    "completed": ("thread.run.completed", {"id": RUN, "thread_id": THREAD}),
    "file": ("vector_store.file.completed", {"id": FILE, "vector_store_id": STORE}),
}
STORED = f"{STORE}/{FILE}"
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


def search(began: float, *found: str) -> Request:
    """For the file's text."""
    data = [
        {"file_id": one, "content": [{"type": "text", "text": "This is one."}]} for one in found
    ]
    body, path = {"query": "The number of one"}, f"/vector_stores/{STORE}/search"
    return Request("c1", "a", "POST", path, body, began, began + 0.1, 200, {"data": data})


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
            Request(
                "c1", "a", "POST", "/files", {"filename": "one.txt"}, 5, 5.1, 200, {"id": FILE}
            ),
            answered("GET", FILE_PATH, 5.2, {"id": FILE, "status": "completed"}),
            search(6, FILE),
            *(sent(f"evt_{at}", about, 6 + at) for at, about in enumerate(ABOUT, 1)),
            Sample("worker-a", 5, 1 << 20, 10, 10, 1),
            Stock(5, {"runs": 1}, 1 << 20, 1 << 20),
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
            vector_stores=[{"id": STORE}],
            vector_store_files=[{"seq": 1, "id": STORED, "status": "completed"}],
            chunks=[{"store_file_seq": 1, "position": 1}],
            webhook_endpoints=[{"id": "whe_1"}],
            webhook_deliveries=[
                delivery(at, STORED if about == "file" else RUN, about)
                for at, about in enumerate(ABOUT, 1)
            ],
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
    sent = {"filename": "one.txt", "sha256": "1"}
    upload = Request("c1", "a", "POST", "/files", sent, 3, 3.1, 200, {"id": FILE})
    content = answered("GET", f"/files/{FILE}/content", 4, {"sha256": "2"})
    world.entries += [upload, content]


def resurrected(world: World) -> None:
    world.entries.append(answered("DELETE", f"/threads/{THREAD}", 9, {"deleted": True}))


def removed(world: World) -> None:
    """And found all the same."""
    world.final.vector_store_files.clear()
    world.final.chunks.clear()
    world.entries += [answered("DELETE", FILE_PATH, 9, {"deleted": True}), search(10, FILE)]


def change_delivery(at: int, **changed: Any) -> Doctor:
    return lambda world: world.final.webhook_deliveries[at].update(changed)


def grown(**after: int) -> Doctor:
    """A process that takes more and more."""
    little = {"rss": 1 << 20, "files": 10, "threads": 10}
    taken = [little] * 12 + [little | after] * 8
    return add(*(Sample("worker-b", 5 * at, **one, pid=2) for at, one in enumerate(taken)))


def rows_that_wait(world: World) -> None:
    world.entries += [
        Stock(at, {"runs": at * at // 50}, 1 << 20, 1 << 20) for at in range(0, 300, 5)
    ]


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
    "a file is not found": ("I1", add(search(9))),
    "a removed file is found": ("I1", removed),
    "an event is pending": ("I1", change_delivery(0, status="pending")),
    "an event was given up": ("I1", change_delivery(3, status="failed")),
    "an event is told in the log only": ("I1", lambda world: world.without(Delivery, "evt_3")),
    "a run stands still": ("I2", change_run(status="in_progress")),
    "a run takes longer than it may": ("I2", change_run(completed_at=1_000)),
    "a run expires at once": ("I2", change_run(status="expired", expires_at=600)),
    "a file stands still": (
        "I2",
        lambda world: world.final.vector_store_files.append(
            {"seq": 2, "id": "vs_1/x", "status": "in_progress"}
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
    "an event was sent without a claim": ("I5", add(sent("evt_2", "in_progress", 20))),
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
    "an end that is not told": ("I7", lambda world: world.final.webhook_deliveries.pop(2)),
    "a file's end that is not told": ("I7", lambda world: world.final.webhook_deliveries.pop(3)),
    "an end that is told twice": (
        "I7",
        lambda world: world.final.webhook_deliveries.append(delivery(5, RUN, "completed")),
    ),
    "another end is told": ("I7", change_delivery(2, type="thread.run.failed")),
    "events out of order": (
        "I7",
        lambda world: world.entries.insert(0, sent("evt_3", "completed", 1, taken=False)),
    ),
    "a stranger is told": ("I8", add(sent("evt_1", "queued", 20, project="b"))),
    "a signature that is wrong": ("I8", add(sent("evt_1", "queued", 20, genuine=False))),
    "a stranger's list": (
        "I8",
        add(Request("c2", "b", "GET", "/runs", None, 9, 9.1, 200, {"data": [run("completed")]})),
    ),
    "a stranger's stream": ("I8", add(Told("c2", "b", RUN, 9, (1, 1), *EVENTS[0]))),
    "a telling refusal": ("I8", add(answered("GET", PATH, 9, REFUSAL, 404))),
    "memory without end": ("I9", add(Sample("worker-a", 9, 1 << 40))),
    "files without end": ("I9", add(Sample("worker-a", 9, 1, 10_000, 1, 1))),
    "threads without end": ("I9", add(Sample("worker-a", 9, 1, 1, 10_000, 1))),
    "rows without end": ("I9", add(Stock(9, {"runs": 100_000}, 1, 1))),
    "disk without end": ("I9", add(Stock(9, {"runs": 1}, 1 << 40, 1))),
    "memory that grows": ("I9", grown(rss=100 << 20)),
    "open files that grow": ("I9", grown(files=100)),
    "threads that grow": ("I9", grown(threads=40)),
    "rows that wait and grow": ("I9", rows_that_wait),
    "chunks that nobody knows": ("I9", lambda world: world.final.vector_store_files.clear()),
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
    assert world.found() == set()  # those who were told of its runs may know it


def test_what_left_a_vector_store_is_still_a_file() -> None:
    world = World()
    removed(world)
    world.entries[-1] = search(10)
    world.final.webhook_deliveries.pop()
    assert world.found() == set()


def second_epoch(world: World) -> None:
    """The worker lost the run after the first of two deltas was written: its message is withdrawn, another one takes its place."""
    start = EVENTS[:7]
    end = [
        ("thread.message.incomplete", message("incomplete", TEXT)),
        ("thread.run.step.failed", {"id": STEP}),
    ]
    again = orjson.dumps(EVENTS[3:]).decode()
    for one in (MESSAGE, STEP):
        again = again.replace(one, one.replace("a" * 24, "z" * 24))
    after = [*end, *map(tuple, orjson.loads(again))]
    told = [
        Told("c1", "a", RUN, 3, (epoch, seq), name, data)
        for epoch, events in ((1, start), (2, after))
        for seq, (name, data) in enumerate(events, 1)
    ]
    place = next(at for at, one in enumerate(world.entries) if isinstance(one, Told))
    world.entries = [one for one in world.entries if not isinstance(one, Told)]
    world.entries[place:place] = told
    world.final.events[:] = [
        {
            "run_id": RUN,
            "epoch": one.place[0],
            "seq": one.place[1],
            "name": one.name,
            "data": orjson.dumps(one.data).decode(),
        }
        for one in told
        if one.place != (1, 7)
    ]
    world.final.messages[0]["id"] = f"msg_{'z' * 24}"


def test_the_last_pieces_of_a_withdrawn_message_need_not_be_stored() -> None:
    world = World()
    second_epoch(world)
    assert "I7" not in world.found()
    world.final.events = [one for one in world.final.events if one["seq"] != 6 or one["epoch"] != 1]
    assert "I7" not in world.found()


def test_pieces_before_one_that_is_stored_are_stored() -> None:
    world = World()
    second_epoch(world)
    world.final.events = [one for one in world.final.events if (one["epoch"], one["seq"]) != (2, 6)]
    assert "I7" in world.found()


def test_an_event_may_come_again_when_it_was_claimed_again() -> None:
    world = World()
    change_delivery(1, epoch=2)(world)
    add(sent("evt_2", "in_progress", 20))(world)
    assert world.found() == set()


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    world = World()
    written = History(tmp_path / "history.jsonl")
    for entry in world.entries:
        written.add(entry)
    written.close()
    assert read_history(tmp_path / "history.jsonl").entries == world.entries
