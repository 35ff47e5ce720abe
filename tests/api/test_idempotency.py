"""`Idempotency-Key`: whatever is sent twice is done once."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from hashlib import md5

import httpx2
import orjson
import pytest
from openai import AsyncOpenAI
from sqlalchemy import func, select

from tests.api.wire import (
    Json,
    answer,
    get,
    make_assistant,
    make_run,
    make_thread,
    make_upload,
    refusal,
    run_to_end,
)
from tests.support.server import Running, running_server
from threadloom.api import keyed, recorded
from threadloom.api.idempotency import fingerprint
from threadloom.api.keyed import Begun, Keyed, KeyInUse, Stored
from threadloom.api.keys import ensure_project
from threadloom.api.recorded import Journal, RecordedDatabase
from threadloom.db.rows import IdempotencyRow, ThreadRow
from threadloom.db.tx import Tx
from threadloom.errors import Unavailable
from threadloom.runs.threads import create_thread
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels
from threadloom.types.threads import ThreadCreate

MESSAGE = {"role": "user", "content": "Hi"}
A_DAY = 86_400
REUSED = refusal(
    400,
    "The Idempotency-Key came before with another request. Send the same request again, or use another key.",
    code="idempotency_key_reused",
)
IN_USE = refusal(
    409,
    "A request with this Idempotency-Key is still being worked on. Please send it again in a moment.",
    code="idempotency_key_in_use",
)


def keyed_by(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def is_replayed(response: httpx2.Response) -> bool:
    return response.headers.get("idempotent-replayed") == "true"


async def count(server: Running, kind: type[ThreadRow | IdempotencyRow]) -> int | None:
    def look(tx: Tx) -> int | None:
        return tx.session.scalar(select(func.count()).select_from(kind))

    return await server.database.read(look)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Running], None]:
    """Makes the next request of a server fail between its commit and its answer."""

    def break_once(server: Running) -> None:
        server.check.expected_statuses.add(503)
        left = ["idempotency.committed"]

        def point(name: str) -> None:
            if name in left:
                left.remove(name)
                raise Unavailable

        monkeypatch.setattr(recorded, "point", point)

    return break_once


@pytest.fixture
async def hurried(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """A server where duplicates do not wait long."""
    settings = {"idempotency": {"wait": 0.2}}
    async with running_server(
        database_url, ScriptedModels(model), settings=settings, with_worker=False
    ) as running:
        yield running


async def test_the_first_answer_is_given_again(still: Running, raw: httpx2.AsyncClient) -> None:
    body = {"metadata": {"a": "1", "b": "2"}}
    first = await raw.post("/threads", json=body, headers=keyed_by("one key"))
    second = await raw.post("/threads", json=body, headers=keyed_by("one key"))
    assert first.status_code == 200
    assert answer(second) == answer(first)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (is_replayed(first), is_replayed(second)) == (False, True)
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert await count(still, ThreadRow) == 1


async def test_without_a_key_nothing_is_remembered(still: Running, raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    await raw.get("/threads", headers=keyed_by("k"))
    assert await count(still, IdempotencyRow) == 0


async def test_another_request_with_the_key_is_refused(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    body = {"metadata": {"a": "1", "b": "2"}}
    await raw.post("/threads", json=body, headers=keyed_by("k"))
    other_body = await raw.post("/threads", json={}, headers=keyed_by("k"))
    other_path = await raw.post("/assistants", json=body, headers=keyed_by("k"))
    other_query = await raw.post("/threads?a=1", json=body, headers=keyed_by("k"))
    assert answer(other_body) == answer(other_path) == answer(other_query) == REUSED
    in_other_order = '{"metadata": {"b": "2",  "a": "1"}}'
    assert is_replayed(await raw.post("/threads", content=in_other_order, headers=keyed_by("k")))
    assert await count(still, ThreadRow) == 1


async def test_each_project_has_its_own_keys(still: Running, raw: httpx2.AsyncClient) -> None:
    mine = await raw.post("/threads", json={"metadata": {"a": "1"}}, headers=keyed_by("k"))
    async with still.http(await still.new_key("other")) as other:
        theirs = await other.post("/threads", json={}, headers=keyed_by("k"))
    assert (theirs.status_code, is_replayed(theirs)) == (200, False)
    assert theirs.json()["id"] != mine.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_an_unfit_key_is_refused(raw: httpx2.AsyncClient, key: str) -> None:
    refused = await raw.post("/threads", headers=keyed_by(key))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_idempotency_key"


async def test_the_longest_key(raw: httpx2.AsyncClient) -> None:
    assert (await raw.post("/threads", headers=keyed_by("x" * 255))).status_code == 200


async def test_parallel_duplicates_get_one_answer(
    server: Running, http: httpx2.AsyncClient
) -> None:
    thread = await make_thread(http)
    path = f"/threads/{thread['id']}/messages"
    sent = (http.post(path, json=MESSAGE, headers=keyed_by("k")) for _ in range(50))
    answers = await asyncio.gather(*sent)
    assert {response.status_code for response in answers} == {200}
    assert len({response.content for response in answers}) == 1
    assert [is_replayed(response) for response in answers].count(False) == 1
    assert len((await get(http, path))["data"]) == 1


async def test_who_left_before_the_answer_gets_it_later(
    server: Running, http: httpx2.AsyncClient
) -> None:
    server.check.expected_statuses.add(0)
    lines = ("POST /v1/threads HTTP/1.1", "Host: x", f"Authorization: Bearer {server.key}")
    request = "\r\n".join([*lines, "Idempotency-Key: k", "Content-Length: 2", "", "{}"])
    for patience in (0, 0.001, 0.003, 0.01, 0.03):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode())
        await asyncio.sleep(patience)
        writer.transport.abort()
    done = await http.post("/threads", json={}, headers=keyed_by("k"))
    assert done.status_code == 200
    assert await count(server, ThreadRow) == 1


async def held(server: Running, key: str = "k", *, lease: float = 60) -> Keyed:
    """The request that another process has: POST /v1/threads without a body."""
    scope: Json = {"path": "/v1/threads", "query_string": b"", "headers": []}
    project = await server.database.write(ensure_project)
    request = Keyed(project, key, fingerprint(scope, b""), holder="another")
    begun = await server.database.write(keyed.begin, request, lease=lease, keep=A_DAY)
    assert begun == Begun([])
    return request


async def test_a_duplicate_does_not_wait_for_ever(hurried: Running) -> None:
    hurried.check.expected_statuses.add(409)
    await held(hurried)
    async with hurried.http() as http:
        assert answer(await http.post("/threads", headers=keyed_by("k"))) == IN_USE


async def test_who_waits_is_woken_by_the_answer(still: Running, raw: httpx2.AsyncClient) -> None:
    first = await held(still)
    kept = Stored(400, {"content-type": "application/json"}, orjson.dumps(IN_USE[1]))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(raw.post("/threads", headers=keyed_by("k")))
        await asyncio.sleep(0.2)
        await still.database.write(keyed.finish, first, kept)
    assert answer(waiting.result()) == (400, IN_USE[1])
    assert still.database.signal.missed == 0


async def test_who_takes_over_fences_off_who_had_it(
    server: Running, http: httpx2.AsyncClient
) -> None:
    lost = await held(server, lease=0.1)
    taken_over = await http.post("/threads", headers=keyed_by("k"))
    assert (taken_over.status_code, is_replayed(taken_over)) == (200, False)
    database = RecordedDatabase(server.database, lost.project_id, lost, Journal([]))
    with pytest.raises(KeyInUse):
        await database.write(create_thread, ThreadCreate(), tables=False)
    late = Stored(400, {}, b"late")
    await server.database.write(keyed.finish, lost, late)
    assert answer(await http.post("/threads", headers=keyed_by("k"))) == answer(taken_over)
    assert await count(server, ThreadRow) == 1
    assert not await server.database.write(keyed.renew, lost, lease=60)


async def test_refusals_are_given_again(still: Running, raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    path = f"/threads/{run['thread_id']}/messages"
    refused = await raw.post(path, json=MESSAGE, headers=keyed_by("k"))
    assert refused.status_code == 400
    await raw.delete(f"/threads/{run['thread_id']}")
    again = await raw.post(path, json=MESSAGE, headers=keyed_by("k"))
    assert (answer(again), is_replayed(again)) == (answer(refused), True)


async def test_what_never_began_may_be_sent_again_corrected(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    for path, body in (("/threads", {"no": 1}), ("/nowhere", {}), ("/assistants", "not an object")):
        refused = await raw.post(path, json=body, headers=keyed_by("k"))
        assert refused.status_code in {400, 404}
    refused = await raw.post("/files", content=b"no form", headers=keyed_by("k"))
    assert refused.status_code == 400
    done = await raw.post("/threads", headers=keyed_by("k"))
    assert (done.status_code, is_replayed(done)) == (200, False)


async def test_a_fault_is_not_kept_and_what_was_done_is_not_done_again(
    still: Running, raw: httpx2.AsyncClient, broken: Callable[[Running], None]
) -> None:
    broken(still)
    assert (await raw.post("/threads", headers=keyed_by("k"))).status_code == 503
    first = await raw.post("/threads", headers=keyed_by("k"))
    second = await raw.post("/threads", headers=keyed_by("k"))
    assert first.status_code == 200
    assert answer(second) == answer(first)
    assert is_replayed(first)
    assert is_replayed(second)
    assert await count(still, ThreadRow) == 1


async def test_a_stream_begins_again(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hel", "lo")
    assistant = await make_assistant(http, instructions="Be brief.")
    thread = await make_thread(http, "Hi")
    path = f"/threads/{thread['id']}/runs"
    body = {"assistant_id": assistant["id"], "stream": True}
    first = await http.post(path, json=body, headers=keyed_by("k"))
    second = await http.post(path, json=body, headers=keyed_by("k"))
    assert first.text.endswith("event: done\ndata: [DONE]\n\n")
    assert second.text == first.text
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (is_replayed(first), is_replayed(second)) == (False, True)
    assert len((await get(http, path))["data"]) == 1
    other = await http.post(path, json=body | {"stream": False}, headers=keyed_by("k"))
    assert answer(other) == REUSED


async def test_a_stream_can_be_had_while_the_first_still_runs(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    """Duplicates of a stream do not wait for its end."""
    done = asyncio.Event()
    model.waits(done, "Hello")
    assistant = await make_assistant(http, instructions="Be brief.")
    body = {"assistant_id": assistant["id"], "stream": True}
    async with http.stream("POST", "/threads/runs", json=body, headers=keyed_by("k")) as first:
        lines = first.aiter_lines()
        opening = await anext(lines)
        async with http.stream("POST", "/threads/runs", json=body, headers=keyed_by("k")) as second:
            others = second.aiter_lines()
            assert await anext(others) == opening == "event: thread.created"
            done.set()
            assert [line async for line in others] == [line async for line in lines]
    assert await count(server, ThreadRow) == 1


async def test_outputs_are_taken_once(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(("f", "{}"))
    model.says("Done.")
    function = {"type": "function", "function": {"name": "f"}}
    run = await run_to_end(http, tools=[function])
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    body = {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}], "stream": True}
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    first = await http.post(path, json=body, headers=keyed_by("k"))
    second = await http.post(path, json=body, headers=keyed_by("k"))
    assert first.status_code == second.status_code == 200
    assert "thread.run.completed" in first.text
    assert second.text == first.text


async def test_a_file_is_stored_once(raw: httpx2.AsyncClient) -> None:
    async def send(content: bytes) -> httpx2.Response:
        file = {"file": ("notes.txt", content)}
        data = {"purpose": "assistants"}
        return await raw.post("/files", data=data, files=file, headers=keyed_by("k"))

    first, second = await send(b"Some text."), await send(b"Some text.")
    assert (answer(second), is_replayed(second)) == (answer(first), True)
    assert answer(await send(b"A longer text.")) == REUSED
    assert [file["id"] for file in (await get(raw, "/files"))["data"]] == [first.json()["id"]]


async def test_a_large_file_is_not_read_again(raw: httpx2.AsyncClient) -> None:
    """The answer comes although most of the body was not looked at."""

    async def send() -> httpx2.Response:
        file = {"file": ("x.txt", b"x" * (8 * 1024 * 1024))}
        data = {"purpose": "assistants"}
        return await raw.post("/files", data=data, files=file, headers=keyed_by("k"))

    first, second = await send(), await send()
    assert (answer(second), is_replayed(second)) == (answer(first), True)


async def test_what_was_read_before_a_write_is_recorded_with_it(
    still: Running, raw: httpx2.AsyncClient, broken: Callable[[Running], None]
) -> None:
    """An upload's checksum is compared before it is completed, and cannot be afterwards."""
    upload = await make_upload(raw, 4)
    part = await raw.post(f"/uploads/{upload['id']}/parts", files={"data": b"text"})
    body = {"part_ids": [part.json()["id"]], "md5": md5(b"text").hexdigest()}
    broken(still)
    path = f"/uploads/{upload['id']}/complete"
    assert (await raw.post(path, json=body, headers=keyed_by("k"))).status_code == 503
    done = await raw.post(path, json=body, headers=keyed_by("k"))
    assert (done.status_code, done.json()["status"]) == (200, "completed")


async def test_a_key_is_forgotten_after_a_day(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    first = await raw.post("/threads", headers=keyed_by("k"))
    clock.advance(A_DAY - 1)
    assert is_replayed(await raw.post("/threads", headers=keyed_by("k")))
    clock.advance(1)
    fresh = await raw.post("/threads", json={}, headers=keyed_by("k"))
    assert (fresh.status_code, is_replayed(fresh)) == (200, False)
    assert fresh.json()["id"] != first.json()["id"]


async def test_forgotten_keys_are_swept(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    await raw.post("/threads", headers=keyed_by("old"))
    clock.advance(A_DAY)
    await raw.post("/threads", headers=keyed_by("new"))
    await held(still, "held")
    await still.background.sweep()
    assert await count(still, IdempotencyRow) == 2
    assert is_replayed(await raw.post("/threads", headers=keyed_by("new")))


async def test_the_sdk_sends_a_key_that_it_is_given(client: AsyncOpenAI) -> None:
    first = await client.beta.threads.create(extra_headers=keyed_by("k"))
    assert (await client.beta.threads.create(extra_headers=keyed_by("k"))).id == first.id
    assert (await client.beta.threads.create()).id != first.id


async def test_the_sdk_can_send_a_key_with_each_try(
    server: Running, client: AsyncOpenAI, broken: Callable[[Running], None]
) -> None:
    """What a client's own retries send again is done once, if one setting tells it to say so."""
    patient = client.with_options(max_retries=1)
    patient._idempotency_header = "Idempotency-Key"  # pyright: ignore[reportPrivateUsage] - there is no public name
    broken(server)
    first = await patient.beta.threads.create()
    assert await count(server, ThreadRow) == 1
    assert (await patient.beta.threads.create()).id != first.id
