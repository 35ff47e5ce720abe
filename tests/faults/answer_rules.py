"""What clients were told: I0, I1, I7, I8."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import orjson

from tests.faults.case import Case, is_success, messages_by_run
from tests.faults.client import Event, retell, text_of
from tests.faults.final import Final, Row
from tests.faults.history import History, Request, StreamEnd, Told

TABLES = {
    "assistant": "assistants",
    "thread": "threads",
    "thread.message": "messages",
    "thread.run": "runs",
    "file": "files",
    "vector_store": "vector_stores",
    "vector_store.file": "vector_store_files",
}
IN_STORE = re.compile(r"/vector_stores/([^/]+)/files")
ID = re.compile(r"\b(?:asst_|thread_|msg_|run_|step_|file-|vs_)[A-Za-z0-9]{16,}\b")


def refusals(case: Case) -> Iterator[str]:
    for request in case.history.of(Request):
        if request.status == 500:
            yield f"{request.method} {request.path} was answered with 500"
        if request.status in (429, 503) and request.retry_after is None:
            yield f"{request.method} {request.path}: {request.status} without retry-after"


def lost(case: Case) -> Iterator[str]:
    """Objects that were acknowledged, and that nobody tried to delete."""
    stored = stored_ids(case.final)
    deleted = deletions(case.history)
    for request, answer in case.acknowledged:
        table = TABLES.get(answer.get("object", ""))
        named = ID.findall(f"{request.path} {answer.get('id')} {answer.get('thread_id')}")
        key = key_of(table, answer) if table else ""
        if table and deleted.isdisjoint([*named, key]) and key not in stored[table]:
            yield f"{answer['id']} of POST {request.path} is gone"
    yield from lost_outputs(case, deleted)
    yield from changed_bytes(case)
    for request in case.history.of(Request):
        gone = deleted_by(request)
        back = any(gone in ids for ids in stored.values())
        if request.method == "DELETE" and is_success(request) and back:
            yield f"{gone} is back though its deletion was acknowledged"


def stored_ids(final: Final) -> dict[str, set[str]]:
    return {
        table: {key_of(table, row) for row in getattr(final, table)} for table in TABLES.values()
    }


def lost_outputs(case: Case, deleted: set[str]) -> Iterator[str]:
    heard = {call: output for step in case.final.run_steps for call, output in heard_of(step)}
    for request, answer in case.acknowledged:
        submitted = request.path.endswith("/submit_tool_outputs")
        if submitted and answer["thread_id"] not in deleted and request.body:
            for sent in request.body["tool_outputs"]:
                if heard.get((answer["id"], sent["tool_call_id"])) != sent["output"]:
                    yield f"{answer['id']}: the output of {sent['tool_call_id']} is gone"


def changed_bytes(case: Case) -> Iterator[str]:
    sent = {
        f"/files/{answer['id']}/content": (request.body or {}).get("sha256")
        for request, answer in case.acknowledged
        if request.path == "/files"
    }
    for request in case.history.of(Request):
        got = (request.answer or {}).get("sha256")
        if request.path in sent and is_success(request) and got != sent[request.path]:
            yield f"{request.path} has other bytes than were sent"


def key_of(table: str, row: Row) -> str:
    if table == "vector_store_files" and "/" not in row["id"]:
        return f"{row['vector_store_id']}/{row['id']}"
    return row["id"]


def heard_of(step: Row) -> Iterator[tuple[tuple[str, str], str]]:
    for call_id, output in step["heard"].items():
        yield (step["run_id"], call_id), output


def deletions(history: History) -> set[str]:
    """What somebody tried to delete: it may be gone, or not."""
    return {deleted_by(request) for request in history.of(Request) if request.method == "DELETE"}


def deleted_by(request: Request) -> str:
    """The key of what is deleted; a file that leaves a vector store stays a file."""
    above, _, last = request.path.rpartition("/")
    store = IN_STORE.fullmatch(above)
    return f"{store[1]}/{last}" if store else last


def streams(case: Case) -> Iterator[str]:
    for end in case.history.of(StreamEnd):
        if end.how == "silent":
            yield f"a stream of {end.run_id} ended and said nothing"
    rows: dict[str, dict[tuple[int, int], Row]] = defaultdict(dict)
    for row in case.final.events:
        rows[row["run_id"]][row["epoch"], row["seq"]] = row
    stored = messages_by_run(case.final)
    told: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for one in case.history.of(Told):
        told[one.client, one.run_id].append(one)
    finished = {(e.client, e.run_id) for e in case.history.of(StreamEnd) if e.how == "done"}
    for (client, run_id), events in told.items():
        if run_id in rows:  # those of a deleted thread are gone
            whole = (client, run_id) in finished
            yield from story(run_id, events, rows[run_id], stored[run_id], whole=whole)


def story(
    run_id: str,
    told: list[Told],
    rows: dict[tuple[int, int], Row],
    messages: list[Row],
    *,
    whole: bool,
) -> Iterator[str]:
    for one in told:
        row = rows.get(one.place)
        if row is None and was_withdrawn(one, rows):
            continue
        if row is None or row["name"] != one.name:
            yield f"{run_id}: {one.name} at {one.place} was streamed and is not stored"
        elif one.name.startswith("thread.message") and orjson.loads(row["data"]) != one.data:
            yield f"{run_id}: {one.name} at {one.place} is stored differently"
    places = [one.place for one in told]
    between = [place for place in sorted(rows) if places[0] <= place <= places[-1]]
    if missed := set(between) - set(places):
        yield f"{run_id}: {sorted(missed)[:3]} of its events were never streamed"
    try:
        texts = retold(told)
    except AssertionError as error:
        yield f"{run_id}: its stream tells no story: {str(error).partition(chr(10))[0]}"
        return
    kept = {one["id"]: text_of(one) for one in messages if one["status"] == "completed"}
    if whole and texts != kept:
        yield f"{run_id}: its stream tells of {sorted(texts)}, stored are {sorted(kept)}"


def was_withdrawn(one: Told, rows: dict[tuple[int, int], Row]) -> bool:
    """Whether it is of the last pieces of a message that was withdrawn: they are shown before they are written."""
    epoch, _ = one.place
    later = (row for place, row in rows.items() if place > one.place)
    ends = [row for row in later if row["name"] == "thread.message.incomplete"]
    return (
        one.name == "thread.message.delta"
        and one.place > max(place for place in rows if place[0] <= epoch)
        and any(orjson.loads(row["data"])["id"] == one.data["id"] for row in ends)
    )


def retold(told: Iterable[Told]) -> dict[str, str]:
    """What a client that reads on after `requires_action` was told."""
    texts: dict[str, str] = {}
    part: list[Event] = []
    for one in told:
        part.append(Event(one.name, one.data, one.place))
        if one.name == "thread.run.requires_action":
            texts |= retell(part)
            part = []
    return texts | retell(part)


def strangers(case: Case) -> Iterator[str]:
    owner = {answer["id"]: r.project for r, answer in case.acknowledged if answer.get("id")}
    for request in case.history.of(Request):
        if is_success(request):
            found = set(ID.findall(orjson.dumps(request.answer).decode()))
            for one in found:
                if owner.get(one, request.project) != request.project:
                    yield f"{request.project} was shown {one} by {request.method} {request.path}"
        elif request.status == 404:
            yield from other_refusal(request)
    for one in case.history.of(Told):
        if owner.get(one.run_id, one.project) != one.project:
            yield f"{one.project} was streamed {one.run_id}"


def other_refusal(request: Request) -> Iterator[str]:
    """What exists elsewhere is refused as what does not exist at all."""
    message: str = (request.answer or {})["error"]["message"]
    if not message.startswith(("No ", "Invalid URL")):
        yield f"{request.path} was refused with {message!r}"
