"""A server with something of everything, and all that its API tells of it."""

import asyncio
from typing import Any

import httpx2
import orjson

from tests.api.wire import get, make_file, make_upload, post, succeeded
from tests.faults.processes import until
from tests.support.server import Running
from threadloom.sandbox.session import Logs
from threadloom.testing import FakeSandbox, ScriptedModel, Writes

Json = dict[str, Any]
CODE: Json = {"type": "code_interpreter"}
SEARCH: Json = {"type": "file_search"}
FUNCTION: Json = {"type": "function", "function": {"name": "weather"}}
ALIVE = ("queued", "in_progress")


def call(name: str, **arguments: Any) -> tuple[str, str]:
    return name, orjson.dumps(arguments).decode()


async def fill(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel, sandbox: FakeSandbox, mark: str
) -> Json:
    """Objects of every kind with `mark` in every text; answers with the ids that tests go on with."""
    metadata = {"about": mark}
    document = await make_file(
        http, f"The secret word is {mark}.\nNothing else.\n".encode(), f"{mark}.md"
    )
    loose = await make_file(http, f"a,b\n{mark},1\n".encode(), "table.csv")
    upload = await make_upload(http, size=4, filename=f"{mark}.txt")
    part = {"data": mark[:4].encode()}
    succeeded(await http.post(f"/uploads/{upload['id']}/parts", files=part))
    store = await post(
        http,
        "/vector_stores",
        {"name": mark, "file_ids": [document["id"]], "metadata": metadata},
    )
    await until(lambda: is_taken_in(http, store["id"]), "the file is taken in")
    resources = {
        "file_search": {"vector_store_ids": [store["id"]]},
        "code_interpreter": {"file_ids": [loose["id"]]},
    }
    assistant = await post(
        http,
        "/assistants",
        {
            "model": "scripted",
            "name": mark,
            "instructions": f"Say {mark}.",
            "tools": [SEARCH, CODE, FUNCTION],
            "tool_resources": resources,
            "metadata": metadata,
        },
    )
    thread = await new_thread(http, mark)
    model.calls(call("file_search", queries=[mark]))
    model.calls(call("code_interpreter", code=f"print('{mark}')"))
    model.says(f"It is {mark}. [Table](sandbox:/mnt/data/out.csv)")
    sandbox.then(
        Logs(f"{mark}\n"),
        Writes("/mnt/data/out.csv", mark.encode()),
        Writes("/mnt/data/kept.txt", f"kept {mark}".encode()),
    )
    await run_until(http, thread, assistant["id"], "completed")
    waiting = await new_thread(http, mark)
    model.calls(call("weather", place=mark))
    waits = await run_until(http, waiting, assistant["id"], "requires_action")
    return {
        "assistant": assistant["id"],
        "thread": thread,
        "waiting": waiting,
        "waits": waits,
        "store": store["id"],
        "files": [document["id"], loose["id"]],
        "upload": upload["id"],
    }


async def new_thread(http: httpx2.AsyncClient, mark: str) -> str:
    message = {"role": "user", "content": f"What of {mark}?", "metadata": {"about": mark}}
    long = {"role": "user", "content": f"{mark} " * 4_000}
    thread = await post(
        http, "/threads", {"messages": [message, long], "metadata": {"about": mark}}
    )
    return thread["id"]


async def start_run(http: httpx2.AsyncClient, thread: str, assistant: str) -> Json:
    key = {"Idempotency-Key": f"run of {thread}"}
    return succeeded(
        await http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant}, headers=key)
    )


async def run_until(http: httpx2.AsyncClient, thread: str, assistant: str, status: str) -> Json:
    run = await start_run(http, thread, assistant)
    return await reaches(http, run, status)


async def reaches(http: httpx2.AsyncClient, run: Json, status: str) -> Json:
    """The run, once it has this status."""
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    found: Json = run

    async def is_there() -> bool:
        nonlocal found
        found = await get(http, path)
        assert found["status"] in (status, *ALIVE), found
        return found["status"] == status

    await until(is_there, f"the run is {status}")
    return found


async def is_taken_in(http: httpx2.AsyncClient, store: str) -> bool:
    found = await get(http, f"/vector_stores/{store}")
    assert not found["file_counts"]["failed"]
    return found["file_counts"]["completed"] == 1


async def everything(http: httpx2.AsyncClient, query: str) -> Json:
    """All objects of the project, each with what belongs to it."""
    kinds = ("assistants", "threads", "runs", "files", "vector_stores", "webhook_endpoints")
    found = {kind: await listed(http, f"/{kind}") for kind in kinds}
    for thread in found["threads"]:
        path = f"/threads/{thread['id']}"
        found[f"{path}/messages"] = await listed(http, f"{path}/messages")
    for run in found["runs"]:
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        found[f"{path}/steps"] = await listed(http, f"{path}/steps")
        if run["status"] not in ALIVE:
            found[f"{path}/events"] = [(await http.get(f"{path}/events")).text]
    for file in found["files"]:
        content = await http.get(f"/files/{file['id']}/content")
        assert content.status_code == 200, content.text
        found[f"/files/{file['id']}"] = [content.content]
    for store in found["vector_stores"]:
        path = f"/vector_stores/{store['id']}"
        found[f"{path}/files"] = await listed(http, f"{path}/files")
        found[f"{path}/search"] = (await post(http, f"{path}/search", {"query": query}))["data"]
    return found


async def listed(http: httpx2.AsyncClient, path: str) -> list[Any]:
    return (await get(http, path, limit=100, order="asc"))["data"]


def hanging(model: ScriptedModel) -> asyncio.Event:
    """A turn that says a word and then nothing, until the event."""
    event = asyncio.Event()
    model.plays("Well", event)
    return event
