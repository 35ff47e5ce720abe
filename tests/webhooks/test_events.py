"""What is announced: each change of a run, step, file or batch, once, in order, with ids and nothing else."""

import asyncio

import httpx2
import pytest
from openai import AsyncOpenAI
from sqlalchemy import func, select

from tests.api.stores import attach, make_store
from tests.api.wire import Json, get, make_file, make_run, post, run_to_end
from tests.faults.processes import until
from tests.support.receiver import Receiver
from tests.support.server import Running
from tests.webhooks.conftest import make_endpoint, project_of
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.rows import WebhookDeliveryRow
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.outbox import announce
from threadloom.testing import ScriptedModel

TOOL: Json = {"type": "function", "function": {"name": "lookup", "parameters": {}}}
STEP = ["thread.run.step.created", "thread.run.step.in_progress", "thread.run.step.completed"]


async def test_a_run_is_told_of_from_its_beginning_to_its_end(
    http: httpx2.AsyncClient, receiver: Receiver, model: ScriptedModel
) -> None:
    await make_endpoint(http, receiver)
    model.says("Nobody else may read this.")
    run = await run_to_end(http)
    await receiver.has("thread.run.queued", "thread.run.in_progress", *STEP, "thread.run.completed")
    ended = receiver.taken[-1].event
    assert ended == {
        "id": receiver.taken[-1].webhook_id,
        "object": "event",
        "created_at": run["completed_at"],
        "type": "thread.run.completed",
        "data": {"id": run["id"], "thread_id": run["thread_id"]},
    }
    step = receiver.taken[-2].event["data"]
    assert step.keys() == {"id", "run_id", "thread_id"}
    path = f"/threads/{step['thread_id']}/runs/{step['run_id']}/steps/{step['id']}"
    assert (await get(http, path))["status"] == "completed"
    assert receiver.forged == 0


async def test_a_run_that_waits_for_its_client_and_goes_on(
    http: httpx2.AsyncClient, receiver: Receiver, model: ScriptedModel
) -> None:
    await make_endpoint(http, receiver)
    model.calls(("lookup", "{}"))
    model.says("Done.")
    run = await run_to_end(http, tools=[TOOL])
    call = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "42"}]}
    await post(http, f"{path}/submit_tool_outputs", outputs)
    await receiver.has(
        *("thread.run.queued", "thread.run.in_progress", *STEP[:2], "thread.run.requires_action"),
        *(STEP[2], "thread.run.queued", "thread.run.in_progress", *STEP, "thread.run.completed"),
    )


async def test_the_end_of_a_run_that_is_cancelled(
    http: httpx2.AsyncClient, receiver: Receiver, model: ScriptedModel
) -> None:
    await make_endpoint(http, receiver, "thread.run.cancelling", "thread.run.cancelled")
    model.waits(asyncio.Event())
    run = await make_run(http)
    await post(http, f"/threads/{run['thread_id']}/runs/{run['id']}/cancel")
    await receiver.has("thread.run.cancelling", "thread.run.cancelled")


async def test_the_end_of_a_run_that_fails(
    http: httpx2.AsyncClient, receiver: Receiver, model: ScriptedModel
) -> None:
    await make_endpoint(http, receiver, "thread.run.failed", "thread.run.step.failed")
    model.fails("server_error", "Broken.", after=("Hello",))
    await run_to_end(http)
    await receiver.has("thread.run.step.failed", "thread.run.failed")


async def test_a_project_is_told_of_its_own_runs_and_of_what_it_asked_for(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver, model: ScriptedModel
) -> None:
    await make_endpoint(http, receiver, "thread.run.completed")
    model.says("One.")
    model.says("Two.")
    async with server.http(await server.new_key("other")) as other:
        await run_to_end(other)
        assert (await get(other, "/webhook_endpoints"))["data"] == []
    run = await run_to_end(http)
    await receiver.has("thread.run.completed")
    assert receiver.taken[0].about == run["id"]


async def test_files_and_their_batch(
    http: httpx2.AsyncClient, client: AsyncOpenAI, receiver: Receiver
) -> None:
    await make_endpoint(http, receiver)
    store = (await make_store(http))["id"]
    files = [(await make_file(http, b"Some text."))["id"] for _ in range(3)]
    broken = (await make_file(http, b"\xff\x00\x01", name="broken.pdf"))["id"]
    batch = await client.vector_stores.file_batches.create_and_poll(
        store, file_ids=[*files, broken]
    )
    assert (batch.file_counts.completed, batch.file_counts.failed) == (3, 1)
    await until(lambda: len(receiver.types()) == 5, "all came")
    for file in files:
        assert receiver.types(file) == ["vector_store.file.completed"]
    assert receiver.types(broken) == ["vector_store.file.failed"]
    assert receiver.types(batch.id) == ["vector_store.file_batch.completed"]
    assert all(one.event["data"]["vector_store_id"] == store for one in receiver.taken)


async def test_a_batch_of_files_that_were_there_is_done_at_once(
    http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    await make_endpoint(http, receiver)
    store, file = (await make_store(http))["id"], (await make_file(http))["id"]
    await attach(http, store, file)
    await receiver.has("vector_store.file.completed")
    batch = await post(http, f"/vector_stores/{store}/file_batches", {"file_ids": [file]})
    assert batch["status"] == "completed"
    await receiver.has("vector_store.file_batch.completed", about=batch["id"])


async def test_a_batch_is_done_when_its_last_file_is_cancelled_or_deleted(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    await make_endpoint(http, receiver)
    server.background._ingestion.drain()  # pyright: ignore[reportPrivateUsage] - nothing is to be taken in
    store = (await make_store(http))["id"]
    path = f"/vector_stores/{store}/file_batches"
    batches = [
        await post(http, path, {"file_ids": [(await make_file(http))["id"]]}) for _ in range(2)
    ]
    await post(http, f"{path}/{batches[0]['id']}/cancel")
    await receiver.has("vector_store.file_batch.cancelled", about=batches[0]["id"])
    await until(lambda: "vector_store.file.cancelled" in receiver.types(), "the file too")
    file = (await get(http, f"{path}/{batches[1]['id']}/files"))["first_id"]
    await http.delete(f"/files/{file}")
    await receiver.has("vector_store.file_batch.completed", about=batches[1]["id"])


class RolledBack(Exception):
    """The transaction comes to nothing."""


def announce_one(tx: Tx, project_id: str, *, fails: bool = False) -> None:
    announce(tx, project_id, "thread.run.completed", "run_1", {"id": "run_1"})
    if fails:
        raise RolledBack


def count_deliveries(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(WebhookDeliveryRow)) or 0


async def test_what_is_rolled_back_was_not_announced(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    await make_endpoint(http, receiver)
    project = await project_of(server)
    with pytest.raises(RolledBack):
        await server.database.write(announce_one, project, fails=True)
    assert await server.database.read(count_deliveries) == 0
    await server.database.write(announce_one, project)
    assert await server.database.read(count_deliveries) == 1


async def test_another_process_soon_knows_a_new_endpoint(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    project = await project_of(server)
    other = Database(database_url, clock=SystemClock(), ids=RandomIds())
    try:
        await other.write(announce_one, project)
        await make_endpoint(http, receiver)

        async def announced() -> bool:
            await other.write(announce_one, project)
            return await other.read(count_deliveries) > 0

        await until(announced, "the endpoint is known", within=20.0, every=0.1)
    finally:
        await other.close()
    await until(lambda: receiver.taken, "told by the first process")
