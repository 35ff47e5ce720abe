"""What the tests of the API have in common: objects made with raw HTTP, and answers as they are compared."""

from collections.abc import Mapping
from typing import Any

import httpx2

Json = dict[str, Any]
Answer = tuple[int, Json]
NOW = 1_700_000_000
"""Where the frozen clock stands."""


def nth(prefix: str, number: int = 1) -> str:
    """The id that a server with counted ids gives away as this one of its kind."""
    return f"{prefix}_{number:024d}"


async def post(http: httpx2.AsyncClient, path: str, body: object = None) -> Json:
    """The answer of a POST that must succeed."""
    return succeeded(await http.post(path, json=body))


async def get(http: httpx2.AsyncClient, path: str, **query: Any) -> Json:
    """The answer of a GET that must succeed."""
    return succeeded(await http.get(path, params=query))


def succeeded(response: httpx2.Response) -> Json:
    assert response.status_code == 200, response.text
    return response.json()


def answer(response: httpx2.Response) -> Answer:
    return response.status_code, response.json()


def refusal(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> Answer:
    """An error as it stands on the wire, with its status."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return status, {"error": error}


async def answers_to_all_methods(http: httpx2.AsyncClient, path: str) -> list[Answer]:
    """What the path of one object answers to reading, modifying and deleting it."""
    return [
        answer(await http.get(path)),
        answer(await http.post(path, json={})),
        answer(await http.delete(path)),
    ]


async def make_assistant(http: httpx2.AsyncClient, **fields: Any) -> Json:
    return await post(http, "/assistants", {"model": "gpt-4o", **fields})


async def make_thread(http: httpx2.AsyncClient, *texts: str, **fields: Any) -> Json:
    messages = [{"role": "user", "content": text} for text in texts]
    return await post(http, "/threads", {"messages": messages, **fields})


async def make_message(http: httpx2.AsyncClient, thread_id: str, text: str = "Hi") -> Json:
    return await post(http, f"/threads/{thread_id}/messages", {"role": "user", "content": text})


async def make_run(http: httpx2.AsyncClient, **fields: Any) -> Json:
    """A run of a new assistant on a new thread."""
    assistant = await make_assistant(http, name="Runner", instructions="Be brief.")
    thread = await make_thread(http, "Hi")
    return await post(
        http, f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"], **fields}
    )


async def run_to_end(http: httpx2.AsyncClient, **fields: Any) -> Json:
    """A run that a worker has driven to where its stream ends."""
    run = await make_run(http, **fields)
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    await http.get(f"{path}/events")
    return await get(http, path)


async def make_file(
    http: httpx2.AsyncClient,
    content: bytes = b"Some text.",
    name: str = "notes.txt",
    *,
    purpose: str = "assistants",
    fields: Mapping[str, str] | None = None,
) -> Json:
    return succeeded(await send_file(http, content, name, purpose=purpose, fields=fields))


async def send_file(
    http: httpx2.AsyncClient,
    content: bytes = b"Some text.",
    name: str = "notes.txt",
    *,
    purpose: str = "assistants",
    fields: Mapping[str, str] | None = None,
) -> httpx2.Response:
    form = {"purpose": purpose, **(fields or {})}
    return await http.post("/files", data=form, files={"file": (name, content)})


async def make_upload(http: httpx2.AsyncClient, size: int = 10, **fields: Any) -> Json:
    upload = {"filename": "notes.txt", "purpose": "assistants", "bytes": size}
    return await post(http, "/uploads", upload | {"mime_type": "text/plain"} | fields)
