"""A project sees its own objects only: what belongs to another is as unknown as what never was."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx2

from tests.api.wire import (
    Answer,
    Json,
    answer,
    get,
    make_assistant,
    make_file,
    make_thread,
    make_upload,
    run_to_end,
)
from tests.support.server import Running
from threadloom.testing import ScriptedModel

EMPTY: Json = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
# Routes that have nothing of a project's.
SHARED = {"/healthz", "/readyz", "/version", "/v1/models", "/v1/models/{model}"}
LISTS = {"/v1/assistants", "/v1/threads", "/v1/runs", "/v1/files"}
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
}
# Routes that make something of nothing: there is no other project's object to name.
MAKERS = {
    ("post", "/v1/assistants"),
    ("post", "/v1/threads"),
    ("post", "/v1/files"),
    ("post", "/v1/uploads"),
}
Ids = dict[str, str]


async def objects(http: httpx2.AsyncClient, model: ScriptedModel) -> Ids:
    """One of everything."""
    model.says("Hello")
    run = await run_to_end(http)
    path = f"/threads/{run['thread_id']}"
    steps = await get(http, f"{path}/runs/{run['id']}/steps")
    messages = await get(http, f"{path}/messages")
    return {
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "step_id": steps["first_id"],
        "message_id": messages["first_id"],
        "file_id": (await make_file(http))["id"],
        "upload_id": (await make_upload(http))["id"],
    }


def unknown(ids: Ids) -> Ids:
    """Ids of the same kinds that nobody has."""
    return {name: id_.partition("_")[0] + "_" + "0" * 24 for name, id_ in ids.items()}


async def routes(http: httpx2.AsyncClient) -> Iterator[tuple[str, str]]:
    """Every method and path that the app describes."""
    root = str(http.base_url).removesuffix("/v1/")
    paths: dict[str, Json] = (await http.get(f"{root}/openapi.json")).json()["paths"]
    return ((method, path) for path, methods in paths.items() for method in methods)


async def ask(http: httpx2.AsyncClient, method: str, path: str, ids: Ids) -> Answer:
    body = filled(BODIES[path], ids) if method == "post" else None
    return answer(await http.request(method, path.removeprefix("/v1").format(**ids), json=body))


def filled(body: Json, ids: Ids) -> Json:
    known = {f"{{{name}}}": id_ for name, id_ in ids.items()}
    return {
        key: known.get(value, value) if isinstance(value, str) else value
        for key, value in body.items()
    }


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
    paths += ("/runs", "/assistants", "/files")
    return [await get(http, path) for path in paths]


async def test_what_others_have_is_unknown_on_every_route(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    """A new route without a body in BODIES fails here: say what it must refuse."""
    theirs = await objects(http, model)
    before = await snapshot(http, theirs)
    nobodys = unknown(theirs)
    async with server.http(await server.new_key("other")) as other:
        for method, path in await routes(http):
            if path in SHARED or (method, path) in MAKERS:
                continue
            if method == "get" and path in LISTS:
                assert await ask(other, method, path, theirs) == (200, EMPTY), path
                continue
            told = await ask(other, method, path, theirs)
            assert told[0] == 404, (method, path)
            expected = await ask(other, method, path, nobodys)
            assert without_ids(told, theirs) == without_ids(expected, nobodys), (method, path)
    assert await snapshot(http, theirs) == before


async def test_references_to_what_others_have_are_unknown(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    theirs = await objects(http, model)
    nobodys = unknown(theirs)
    async with server.http(await server.new_key("other")) as other:
        thread = (await make_thread(other, "Hi"))["id"]
        mine = await make_assistant(other, instructions="Be brief.")
        for path in (f"/threads/{thread}/runs", "/threads/runs"):
            told = answer(await other.post(path, json={"assistant_id": theirs["assistant_id"]}))
            expected = answer(
                await other.post(path, json={"assistant_id": nobodys["assistant_id"]})
            )
            assert told[0] == 404
            assert without_ids(told, theirs) == without_ids(expected, nobodys)
        told = answer(
            await other.post(
                f"/threads/{theirs['thread_id']}/runs", json={"assistant_id": mine["id"]}
            )
        )
        assert told[0] == 404
        for path in (f"messages/{theirs['message_id']}", f"runs/{theirs['run_id']}"):
            assert (await other.get(f"/threads/{thread}/{path}")).status_code == 404


async def test_cursors_of_others_are_unknown(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    theirs = await objects(http, model)
    gone = (await make_assistant(http))["id"]
    await http.delete(f"/assistants/{gone}")
    async with server.http(await server.new_key("other")) as other:
        thread = (await make_thread(other, "Hi"))["id"]
        lists = {
            "/assistants": theirs["assistant_id"],
            "/assistants?limit=2": gone,
            "/threads": theirs["thread_id"],
            "/runs": theirs["run_id"],
            f"/threads/{thread}/messages": theirs["message_id"],
            f"/threads/{thread}/runs": theirs["run_id"],
        }
        for (path, cursor), name in product(lists.items(), ("after", "before")):
            refused = await other.get(path, params={name: cursor})
            assert refused.status_code == 400, path
            assert f"found with id '{cursor}'" in refused.json()["error"]["message"]


async def test_messages_of_other_runs_are_not_found_by_run(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    theirs = await objects(http, model)
    async with server.http(await server.new_key("other")) as other:
        thread = (await make_thread(other, "Hi"))["id"]
        page = await get(other, f"/threads/{thread}/messages", run_id=theirs["run_id"])
        assert page == EMPTY


async def test_keys_of_one_project_see_the_same(server: Running, http: httpx2.AsyncClient) -> None:
    made = await make_assistant(http)
    async with server.http(await server.new_key("default")) as colleague:
        assert await get(colleague, f"/assistants/{made['id']}") == made
