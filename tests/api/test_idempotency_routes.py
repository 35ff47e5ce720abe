"""Each route that takes a POST: an answer that was not kept is built again from what the request wrote."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import md5

import httpx2
import pytest

from tests.api.stores import attach, make_store
from tests.api.wire import (
    Json,
    get,
    make_assistant,
    make_file,
    make_message,
    make_thread,
    make_upload,
    run_to_end,
    succeeded,
)
from tests.faults.processes import until
from tests.support.receiver import LOCAL, Receiver, receiving
from tests.support.server import Running, running_server
from tests.webhooks.conftest import make_endpoint
from threadloom.api import idempotency
from threadloom.testing import ScriptedModel, ScriptedModels

MESSAGE: Json = {"role": "user", "content": "Hi"}
METADATA: Json = {"metadata": {"a": "1"}}
FUNCTION: Json = {"type": "function", "function": {"name": "f"}}
FORM: Json = {"files": {"file": b"Some text."}, "data": {"purpose": "assistants"}}
WRITE_NOTHING = {
    "/v1/vector_stores/{vector_store_id}/search",
    "/v1/webhook_endpoints/{webhook_endpoint_id}/test",
}
FILE_TOOLS: Json = {"tools": [{"type": "code_interpreter"}, {"type": "file_search"}]}


@dataclass(frozen=True)
class World:
    """Where the requests go."""

    http: httpx2.AsyncClient
    model: ScriptedModel
    receiver: Receiver


Request = tuple[str, Json]
"""A path and what is sent to it."""
Make = Callable[[World], Awaitable[Request]]
CASES: dict[str, Make] = {}


def case(route: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CASES[route] = make
        return make

    return add


def simply(route: str, sent: Json) -> None:
    async def make(world: World) -> Request:
        del world
        return route.removeprefix("/v1"), sent

    CASES[route] = make


simply("/v1/assistants", {"json": {"model": "m", **METADATA, **FILE_TOOLS}})
simply("/v1/threads", {"json": {"messages": [MESSAGE], **METADATA}})
simply("/v1/files", FORM)
simply(
    "/v1/uploads",
    {"json": {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "image/png"}},
)


@case("/v1/assistants/{assistant_id}")
async def modify_assistant(world: World) -> Request:
    assistant = await make_assistant(world.http)
    return f"/assistants/{assistant['id']}", {"json": {"name": "Other", **METADATA}}


@case("/v1/threads/{thread_id}")
async def modify_thread(world: World) -> Request:
    thread = await make_thread(world.http)
    return f"/threads/{thread['id']}", {"json": METADATA}


@case("/v1/threads/{thread_id}/messages")
async def create_message(world: World) -> Request:
    thread, file = await make_thread(world.http), await make_file(world.http)
    attachment = {"file_id": file["id"], "tools": [{"type": "code_interpreter"}]}
    body = {**MESSAGE, **METADATA, "attachments": [attachment]}
    return f"/threads/{thread['id']}/messages", {"json": body}


@case("/v1/threads/{thread_id}/messages/{message_id}")
async def modify_message(world: World) -> Request:
    thread = await make_thread(world.http)
    message = await make_message(world.http, thread["id"])
    return f"/threads/{thread['id']}/messages/{message['id']}", {"json": METADATA}


@case("/v1/threads/runs")
async def create_thread_and_run(world: World) -> Request:
    assistant = await make_assistant(world.http, instructions="Be brief.")
    world.model.says("Hello")
    return "/threads/runs", {"json": {"assistant_id": assistant["id"], "thread": METADATA}}


@case("/v1/threads/{thread_id}/runs")
async def create_run(world: World) -> Request:
    assistant, thread = await make_assistant(world.http), await make_thread(world.http, "Hi")
    options = {"tools": [FUNCTION], "response_format": {"type": "text"}, **METADATA}
    world.model.says("Hello")
    body = {"assistant_id": assistant["id"], **options}
    return f"/threads/{thread['id']}/runs", {"json": body}


@case("/v1/threads/{thread_id}/runs/{run_id}")
async def modify_run(world: World) -> Request:
    world.model.says("Hello")
    run = await run_to_end(world.http)
    return f"/threads/{run['thread_id']}/runs/{run['id']}", {"json": METADATA}


async def waiting_run(world: World) -> Json:
    world.model.calls(("f", "{}"))
    return await run_to_end(world.http, tools=[FUNCTION])


@case("/v1/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel_run(world: World) -> Request:
    run = await waiting_run(world)
    return f"/threads/{run['thread_id']}/runs/{run['id']}/cancel", {}


@case("/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs")
async def submit_tool_outputs(world: World) -> Request:
    run = await waiting_run(world)
    world.model.says("Done.")
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}]}
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    return path, {"json": outputs}


@case("/v1/uploads/{upload_id}/parts")
async def add_upload_part(world: World) -> Request:
    upload = await make_upload(world.http)
    return f"/uploads/{upload['id']}/parts", {"files": {"data": b"Some text."}}


@case("/v1/uploads/{upload_id}/complete")
async def complete_upload(world: World) -> Request:
    upload = await make_upload(world.http)
    part = succeeded(
        await world.http.post(f"/uploads/{upload['id']}/parts", files={"data": b"Some text."})
    )
    body = {"part_ids": [part["id"]], "md5": md5(b"Some text.").hexdigest()}
    return f"/uploads/{upload['id']}/complete", {"json": body}


@case("/v1/uploads/{upload_id}/cancel")
async def cancel_upload(world: World) -> Request:
    return f"/uploads/{(await make_upload(world.http))['id']}/cancel", {}


@case("/v1/vector_stores")
async def create_vector_store(world: World) -> Request:
    file = await make_file(world.http)
    return "/vector_stores", {"json": {"name": "Notes", "file_ids": [file["id"]]}}


async def path_of_store(world: World, *below: str) -> str:
    return "/".join([f"/vector_stores/{(await make_store(world.http))['id']}", *below])


@case("/v1/vector_stores/{vector_store_id}")
async def modify_vector_store(world: World) -> Request:
    expiry = {"expires_after": {"anchor": "last_active_at", "days": 1}}
    return await path_of_store(world), {"json": {"name": "Other", **expiry}}


@case("/v1/vector_stores/{vector_store_id}/search")
async def search_vector_store(world: World) -> Request:
    return await path_of_store(world, "search"), {"json": {"query": "text"}}


@case("/v1/vector_stores/{vector_store_id}/files")
async def create_vector_store_file(world: World) -> Request:
    file = await make_file(world.http)
    body = {"file_id": file["id"], "attributes": {"a": 1, "b": True}}
    return await path_of_store(world, "files"), {"json": body}


@case("/v1/vector_stores/{vector_store_id}/files/{file_id}")
async def modify_vector_store_file(world: World) -> Request:
    store, file = await make_store(world.http), await make_file(world.http)
    await attach(world.http, store["id"], file["id"])
    path = f"/vector_stores/{store['id']}/files/{file['id']}"
    return path, {"json": {"attributes": {"a": 1}}}


@case("/v1/vector_stores/{vector_store_id}/file_batches")
async def create_file_batch(world: World) -> Request:
    file = await make_file(world.http)
    return await path_of_store(world, "file_batches"), {"json": {"file_ids": [file["id"]]}}


@case("/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel")
async def cancel_file_batch(world: World) -> Request:
    path = await path_of_store(world, "file_batches")
    file = await make_file(world.http)
    batch = succeeded(await world.http.post(path, json={"file_ids": [file["id"]]}))
    return f"{path}/{batch['id']}/cancel", {}


async def made_endpoint(world: World) -> Json:
    return await make_endpoint(world.http, world.receiver, "thread.run.completed")


@case("/v1/webhook_endpoints")
async def create_webhook_endpoint(world: World) -> Request:
    types = ["thread.run.completed"]
    body = {"name": "Mine", "url": world.receiver.url, "event_types": types}
    return "/webhook_endpoints", {"json": body}


@case("/v1/webhook_endpoints/{webhook_endpoint_id}")
async def modify_webhook_endpoint(world: World) -> Request:
    endpoint = await made_endpoint(world)
    return f"/webhook_endpoints/{endpoint['id']}", {"json": {"name": "Other"}}


@case("/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret")
async def rotate_webhook_secret(world: World) -> Request:
    endpoint = await made_endpoint(world)
    return f"/webhook_endpoints/{endpoint['id']}/rotate_secret", {}


@case("/v1/webhook_endpoints/{webhook_endpoint_id}/test")
async def sample_webhook(world: World) -> Request:
    endpoint = await made_endpoint(world)
    body = {"event_type": "thread.run.completed"}
    return f"/webhook_endpoints/{endpoint['id']}/test", {"json": body}


@case("/v1/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/replay")
async def replay_webhook_delivery(world: World) -> Request:
    endpoint = await made_endpoint(world)
    world.model.says("Hello")
    await run_to_end(world.http)
    path = f"/webhook_endpoints/{endpoint['id']}/deliveries"

    async def delivered() -> list[Json]:
        return (await get(world.http, path, status="delivered"))["data"]

    await until(delivered, "the run's end is delivered")
    return f"{path}/{(await delivered())[0]['id']}/replay", {}


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    settings = {"outbound": LOCAL}
    async with running_server(database_url, ScriptedModels(model), settings=settings) as running:
        yield running


async def test_every_answer_can_be_built_again(
    server: Running,
    http: httpx2.AsyncClient,
    model: ScriptedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a death between the commit and the answer; a new route needs a case here."""
    paths: dict[str, Json] = (await http.get(f"{root_of(server)}/openapi.json")).json()["paths"]
    assert set(CASES) == {path for path, methods in paths.items() if "post" in methods}
    monkeypatch.setattr(idempotency, "MAX_KEPT", 0)
    async with receiving() as receiver:
        world = World(http, model, receiver)
        different = [route for route in CASES if not await is_built_again(route, world)]
    assert different == []


async def is_built_again(route: str, world: World) -> bool:
    path, sent = await CASES[route](world)
    key = {"Idempotency-Key": route}
    first = await world.http.post(path, **sent, headers=key)
    second = await world.http.post(path, **sent, headers=key)
    assert first.status_code == 200, (route, first.text)
    is_marked = second.headers.get("idempotent-replayed") == "true"
    expected = (200, first.content, route not in WRITE_NOTHING)
    return (second.status_code, second.content, is_marked) == expected


def root_of(server: Running) -> str:
    return server.base_url.removesuffix("/v1")
