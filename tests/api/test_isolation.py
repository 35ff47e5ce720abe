"""A project sees its own objects only: what belongs to another is as unknown as what never was."""

from collections.abc import AsyncGenerator
from itertools import product
from typing import Any

import httpx2
import orjson
import pytest
from fastapi.routing import iter_route_contexts
from openai import AsyncOpenAI

from tests.api.stores import make_store
from tests.api.wire import (
    Answer,
    Json,
    answer,
    get,
    make_assistant,
    make_file,
    make_thread,
    make_upload,
    post,
    run_to_end,
)
from tests.support.receiver import LOCAL
from tests.support.server import Running, running_server
from threadloom.api.edge import OPEN_PATHS
from threadloom.api.keys import list_keys, revoke_key
from threadloom.app import create_app
from threadloom.testing import ScriptedModel, ScriptedModels

EMPTY: Json = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
Route = tuple[str, str]
"""A method and a path."""
# Routes that have nothing of a project's.
SHARED = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi.json",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/webhook_event_types",
    "/v1/threadloom/stream",
}
USAGE = "/v1/organization/usage/completions"
"""It has no list and names nothing: test_usage.py tells who sees what."""
MESSAGE = {"role": "user", "content": "Hi"}
BODIES: dict[str, Json] = {
    "/v1/assistants/{assistant_id}": {"name": "Mine"},
    "/v1/threads/{thread_id}": {"metadata": {}},
    "/v1/threads/{thread_id}/messages": MESSAGE,
    "/v1/threads/{thread_id}/messages/{message_id}": {"metadata": {}},
    "/v1/threads/{thread_id}/runs": {"assistant_id": "{assistant_id}"},
    "/v1/threads/{thread_id}/runs/{run_id}": {"metadata": {}},
    "/v1/threads/{thread_id}/runs/{run_id}/cancel": {},
    "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs": {"tool_outputs": []},
    "/v1/threads/runs": {"assistant_id": "{assistant_id}"},
    "/v1/uploads/{upload_id}/parts": {},
    "/v1/uploads/{upload_id}/complete": {"part_ids": []},
    "/v1/uploads/{upload_id}/cancel": {},
    "/v1/vector_stores/{vector_store_id}": {"name": "Mine"},
    "/v1/vector_stores/{vector_store_id}/search": {"query": "text"},
    "/v1/vector_stores/{vector_store_id}/files": {"file_id": "{file_id}"},
    "/v1/vector_stores/{vector_store_id}/files/{file_id}": {"attributes": {}},
    "/v1/vector_stores/{vector_store_id}/file_batches": {"file_ids": ["{file_id}"]},
    "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel": {},
    "/v1/webhook_endpoints/{webhook_endpoint_id}": {"name": "Mine"},
    "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret": {},
    "/v1/webhook_endpoints/{webhook_endpoint_id}/test": {"event_type": "thread.run.completed"},
    "/v1/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/replay": {},
}
# Routes that make something of nothing: there is no other project's object to name.
MAKERS = {
    ("post", "/v1/assistants"),
    ("post", "/v1/threads"),
    ("post", "/v1/files"),
    ("post", "/v1/uploads"),
    ("post", "/v1/vector_stores"),
    ("post", "/v1/webhook_endpoints"),
}
# Nobody listens there, so that a delivery stays.
HOOK: Json = {
    "name": "Theirs",
    "url": "http://127.0.0.1:9/",
    "event_types": ["thread.run.completed"],
}


def attached(*tools: str) -> Json:
    """A message with a file of the other project."""
    named = [{"type": tool} for tool in tools]
    return MESSAGE | {"attachments": [{"file_id": "{file_id}", "tools": named}]}


STORE: Json = {"file_search": {"vector_store_ids": ["{vector_store_id}"]}}
CODE: Json = {"code_interpreter": {"file_ids": ["{file_id}"]}}
HELPER: Json = {"file_search": {"vector_stores": [{"file_ids": ["{file_id}"]}]}}
# Requests with the other project's ids in their bodies; what is `my_…` is one's own.
REFERENCES: list[tuple[str, Json]] = [
    ("/threads/{my_thread}/runs", {"assistant_id": "{assistant_id}"}),
    ("/threads/runs", {"assistant_id": "{assistant_id}"}),
    ("/threads/{thread_id}/runs", {"assistant_id": "{my_assistant}"}),
    *(
        (path, body | {"tool_resources": resources})
        for resources in (STORE, CODE)
        for path, body in (
            ("/assistants", {"model": "m"}),
            ("/assistants/{my_assistant}", {}),
            ("/threads", {}),
            ("/threads/{my_thread}", {}),
            ("/threads/runs", {"assistant_id": "{my_assistant}", "thread": {"messages": [MESSAGE]}}),
        )
    ),
    ("/assistants", {"model": "m", "tool_resources": HELPER}),
    ("/threads", {"tool_resources": HELPER}),
    *(
        (path, body)
        for message in (attached(), attached("file_search"), attached("code_interpreter"))
        for path, body in (
            ("/threads", {"messages": [message]}),
            ("/threads/{my_thread}/messages", message),
            (
                "/threads/{my_thread}/runs",
                {"assistant_id": "{my_assistant}", "additional_messages": [message]},
            ),
            ("/threads/runs", {"assistant_id": "{my_assistant}", "thread": {"messages": [message]}}),
        )
    ),
    ("/vector_stores", {"file_ids": ["{file_id}"]}),
    ("/vector_stores/{my_store}/files", {"file_id": "{file_id}"}),
    ("/vector_stores/{my_store}/file_batches", {"file_ids": ["{file_id}"]}),
    ("/vector_stores/{my_store}/file_batches", {"files": [{"file_id": "{file_id}"}]}),
    ("/vector_stores/{my_store}/files/{file_id}", {"attributes": {}}),
    ("/vector_stores/{my_store}/file_batches/{batch_id}/cancel", {}),
]  # fmt: skip
Ids = dict[str, str]


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    settings = {"outbound": LOCAL}
    async with running_server(database_url, ScriptedModels(model), settings=settings) as running:
        yield running


@pytest.fixture
async def theirs(http: httpx2.AsyncClient, client: AsyncOpenAI, model: ScriptedModel) -> Ids:
    """One of everything, of the first project."""
    file = (await make_file(http))["id"]
    store = (await make_store(http))["id"]
    batch = await client.vector_stores.file_batches.create_and_poll(store, file_ids=[file])
    assert batch.file_counts.completed == 1
    hook = (await post(http, "/webhook_endpoints", HOOK))["id"]
    model.says("Hello")
    run = await run_to_end(http)
    deliveries = await get(http, f"/webhook_endpoints/{hook}/deliveries")
    path = f"/threads/{run['thread_id']}"
    steps = await get(http, f"{path}/runs/{run['id']}/steps")
    messages = await get(http, f"{path}/messages")
    return {
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "step_id": steps["first_id"],
        "message_id": messages["first_id"],
        "file_id": file,
        "upload_id": (await make_upload(http))["id"],
        "vector_store_id": store,
        "batch_id": batch.id,
        "webhook_endpoint_id": hook,
        "delivery_id": deliveries["first_id"],
    }


def unknown(ids: Ids) -> Ids:
    """Ids of the same kinds that nobody has."""
    return {name: id_.partition("_")[0] + "_" + "0" * 24 for name, id_ in ids.items()}


def routes(server: Running) -> list[Route]:
    """Every method and path of the app's own table, whether it is described or not. HEAD is a GET without its body."""
    table = list(iter_route_contexts(create_app(server.context).routes))
    assert all(route.methods for route in table), "a mount or a socket: walk it too"
    return [
        (method.lower(), route.path_format or "")
        for route in table
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]


async def ask(http: httpx2.AsyncClient, method: str, path: str, ids: Ids) -> Answer:
    body = filled(BODIES[path], ids) if method == "post" else None
    path = filled_path(path, ids).removeprefix("/v1")
    return answer(await http.request(method, path, json=body))


def filled_path(path: str, ids: Ids) -> str:
    return path.format(model="gpt-4o", **ids)


def filled(body: Json, ids: Ids) -> Json:
    """A body with ids in the places that are named for them."""
    text = orjson.dumps(body).decode()
    for name, id_ in ids.items():
        text = text.replace(f"{{{name}}}", id_)
    return orjson.loads(text)


def without_ids(told: Answer, ids: Ids) -> str:
    text = str(told)
    for name, id_ in ids.items():
        text = text.replace(id_, name)
    return text


async def snapshot(http: httpx2.AsyncClient, ids: Ids) -> list[Any]:
    """Everything that the first project has."""
    thread = f"/threads/{ids['thread_id']}"
    run = f"{thread}/runs/{ids['run_id']}"
    assistant = f"/assistants/{ids['assistant_id']}"
    file = f"/files/{ids['file_id']}"
    paths = (assistant, thread, f"{thread}/messages", run, f"{run}/steps", file)
    store = f"/vector_stores/{ids['vector_store_id']}"
    paths += (store, f"{store}/files", f"{store}/file_batches/{ids['batch_id']}")
    paths += (f"/webhook_endpoints/{ids['webhook_endpoint_id']}",)
    paths += ("/runs", "/assistants", "/files", "/vector_stores", "/webhook_endpoints")
    return [await get(http, path) for path in paths]


async def test_what_others_have_is_unknown_on_every_route(
    server: Running, http: httpx2.AsyncClient, theirs: Ids
) -> None:
    """A new route fails here unless it refuses, or is an empty list: say in `theirs` what it names, in BODIES what it is sent."""
    before = await snapshot(http, theirs)
    nobodys = unknown(theirs)
    async with server.http(await server.new_key("other")) as other:
        for method, path in routes(server):
            if path in SHARED | {USAGE} or (method, path) in MAKERS:
                continue
            told = await ask(other, method, path, theirs)
            if method == "get" and "{" not in path:
                assert told == (200, EMPTY), path
                continue
            assert told[0] == 404, (method, path)
            expected = await ask(other, method, path, nobodys)
            assert without_ids(told, theirs) == without_ids(expected, nobodys), (method, path)
    assert await snapshot(http, theirs) == before


async def test_every_route_needs_a_key_that_works(
    server: Running, http: httpx2.AsyncClient, theirs: Ids
) -> None:
    """Each asked from another machine, because this one may look at what is open to it."""
    revoked = await server.new_key("default")
    row = (await server.database.read(list_keys))[-1][0]
    assert await server.database.write(revoke_key, row.id)
    before = await snapshot(http, theirs)
    nobodys = unknown(theirs)
    remote = httpx2.ASGITransport(server.check, client=("203.0.113.7", 4444))
    async with httpx2.AsyncClient(transport=remote, base_url="http://threadloom") as client:
        for method, path in (*routes(server), ("get", "/v1/nothing"), ("get", "/nothing")):
            if path in OPEN_PATHS:
                assert (await client.request(method, path)).status_code == 200
                continue
            for headers, code in (
                ({}, None),
                ({"Authorization": "Bearer sk-unknown"}, "invalid_api_key"),
                ({"Authorization": f"Bearer {revoked}"}, "invalid_api_key"),
                ({"api-key": revoked}, "invalid_api_key"),
            ):
                told = [
                    answer(await client.request(method, filled_path(path, ids), headers=headers))
                    for ids in (theirs, nobodys)
                ]
                assert told[0] == told[1], (method, path)
                status, body = told[0]
                assert (status, body["error"]["code"]) == (401, code), (method, path)
                assert revoked not in str(body)
    assert await snapshot(http, theirs) == before


async def test_references_to_what_others_have_are_unknown(
    server: Running, http: httpx2.AsyncClient, theirs: Ids
) -> None:
    before = await snapshot(http, theirs)
    nobodys = unknown(theirs)
    async with server.http(await server.new_key("other")) as other:
        mine = {
            "my_thread": (await make_thread(other, "Hi"))["id"],
            "my_assistant": (await make_assistant(other, instructions="Be brief."))["id"],
            "my_store": (await make_store(other))["id"],
        }
        for path, body in REFERENCES:
            told, expected = [
                answer(await other.post(path.format(**ids), json=filled(body, ids)))
                for ids in (theirs | mine, nobodys | mine)
            ]
            assert told[0] == 404, (path, body, told)
            assert without_ids(told, theirs) == without_ids(expected, nobodys), (path, body)
        for path in (
            f"/threads/{mine['my_thread']}/messages/{theirs['message_id']}",
            f"/threads/{mine['my_thread']}/runs/{theirs['run_id']}",
            f"/vector_stores/{mine['my_store']}/files/{theirs['file_id']}",
            f"/vector_stores/{mine['my_store']}/files/{theirs['file_id']}/content",
            f"/vector_stores/{mine['my_store']}/file_batches/{theirs['batch_id']}",
            f"/vector_stores/{mine['my_store']}/file_batches/{theirs['batch_id']}/files",
        ):
            assert (await other.get(path)).status_code == 404, path
        assert (await get(other, f"/vector_stores/{mine['my_store']}/files"))["data"] == []
        assert len((await get(other, "/vector_stores"))["data"]) == 1
    assert await snapshot(http, theirs) == before


async def test_parts_of_others_complete_no_upload(
    server: Running, http: httpx2.AsyncClient
) -> None:
    upload = (await make_upload(http))["id"]
    part = await http.post(f"/uploads/{upload}/parts", files={"data": ("part", b"0123456789")})
    body = {"part_ids": [part.json()["id"]]}
    async with server.http(await server.new_key("other")) as other:
        mine = (await make_upload(other))["id"]
        assert (await other.post(f"/uploads/{mine}/complete", json=body)).status_code == 400
    assert (await http.post(f"/uploads/{upload}/complete", json=body)).status_code == 200


async def test_cursors_of_others_are_unknown(
    server: Running, http: httpx2.AsyncClient, theirs: Ids
) -> None:
    gone = (await make_assistant(http))["id"]
    await http.delete(f"/assistants/{gone}")
    async with server.http(await server.new_key("other")) as other:
        thread = (await make_thread(other, "Hi"))["id"]
        store = (await make_store(other))["id"]
        lists = {
            "/assistants": theirs["assistant_id"],
            "/assistants?limit=2": gone,
            "/threads": theirs["thread_id"],
            "/runs": theirs["run_id"],
            f"/threads/{thread}/messages": theirs["message_id"],
            f"/threads/{thread}/runs": theirs["run_id"],
            "/vector_stores": theirs["vector_store_id"],
            "/webhook_endpoints": theirs["webhook_endpoint_id"],
            f"/vector_stores/{store}/files": theirs["file_id"],
        }
        for (path, cursor), name in product(lists.items(), ("after", "before")):
            refused = await other.get(path, params={name: cursor})
            assert refused.status_code == 400, path
            assert f"found with id '{cursor}'" in refused.json()["error"]["message"]


async def test_messages_of_other_runs_are_not_found_by_run(server: Running, theirs: Ids) -> None:
    async with server.http(await server.new_key("other")) as other:
        thread = (await make_thread(other, "Hi"))["id"]
        page = await get(other, f"/threads/{thread}/messages", run_id=theirs["run_id"])
        assert page == EMPTY


async def test_keys_of_one_project_see_the_same(server: Running, http: httpx2.AsyncClient) -> None:
    made = await make_assistant(http)
    async with server.http(await server.new_key("default")) as colleague:
        assert await get(colleague, f"/assistants/{made['id']}") == made
