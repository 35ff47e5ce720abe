"""What messages, threads and assistants bring along for the tools, and what becomes of it."""

import httpx2
import pytest

from tests.api.stores import AUTO, attach, counts, ingest, make_files, make_store
from tests.api.wire import (
    NOW,
    Json,
    answer,
    get,
    make_assistant,
    make_file,
    make_thread,
    nth,
    post,
    refusal,
)
from tests.support.server import Running
from threadloom.testing import FrozenClock

WEEK = 7 * 86_400
SMALL: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
}
THREAD = f"/threads/{nth('thread')}"
STORE = f"/vector_stores/{nth('vs')}"


def attached(*file_ids: str, tool: str = "file_search") -> Json:
    """A message with files for one tool."""
    attachments = [{"file_id": file_id, "tools": [{"type": tool}]} for file_id in file_ids]
    return {"role": "user", "content": "Hi", "attachments": attachments}


def searching(*store_ids: str) -> Json:
    return {"file_search": {"vector_store_ids": list(store_ids)}}


def seeing(*file_ids: str) -> Json:
    return {"code_interpreter": {"file_ids": list(file_ids)}}


async def files_in(raw: httpx2.AsyncClient, store: str) -> list[str]:
    return [file["id"] for file in (await get(raw, f"{store}/files", order="asc"))["data"]]


async def resources(raw: httpx2.AsyncClient, path: str) -> Json:
    return (await get(raw, path))["tool_resources"]


# Messages


async def test_a_file_to_be_searched_makes_a_store_for_the_thread(raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    await make_thread(raw)
    await post(raw, f"{THREAD}/messages", attached(file))
    assert await resources(raw, THREAD) == searching(nth("vs"))
    store = await get(raw, STORE)
    assert store["expires_after"] == {"anchor": "last_active_at", "days": 7}
    assert store["expires_at"] == NOW + WEEK
    assert store["file_counts"] == counts(in_progress=1)
    assert await files_in(raw, STORE) == [file]


async def test_the_thread_keeps_its_store(raw: httpx2.AsyncClient) -> None:
    one, two, three = await make_files(raw, 3)
    mine = (await make_store(raw, file_ids=[one]))["id"]
    await make_thread(raw, tool_resources=searching(mine))
    await post(raw, f"{THREAD}/messages", attached(one, two))
    await post(raw, f"{THREAD}/messages", attached(three, two))
    assert await resources(raw, THREAD) == searching(mine)
    assert await files_in(raw, STORE) == [one, two, three]
    assert (await get(raw, STORE))["expires_after"] is None


async def test_a_file_for_code_is_seen_by_code(raw: httpx2.AsyncClient) -> None:
    one, two = await make_files(raw, 2)
    await make_thread(raw, tool_resources=seeing(one))
    await post(raw, f"{THREAD}/messages", attached(two, one, tool="code_interpreter"))
    assert await resources(raw, THREAD) == seeing(one, two)


async def test_a_file_can_be_for_both_tools(raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    await make_thread(raw)
    tools = [{"type": "code_interpreter"}, {"type": "file_search"}]
    body = {"role": "user", "content": "Hi", "attachments": [{"file_id": file, "tools": tools}]}
    await post(raw, f"{THREAD}/messages", body)
    assert await resources(raw, THREAD) == seeing(file) | searching(nth("vs"))


@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}])
async def test_a_file_for_no_tool_changes_nothing(raw: httpx2.AsyncClient, tools: Json) -> None:
    file = (await make_file(raw, name="a.png"))["id"]
    await make_thread(raw)
    attachments = [{"file_id": file, **tools}, {"tools": [{"type": "file_search"}]}]
    body = {"role": "user", "content": "Hi", "attachments": attachments}
    await post(raw, f"{THREAD}/messages", body)
    assert await resources(raw, THREAD) == {}


async def test_code_sees_20_files_at_most(raw: httpx2.AsyncClient) -> None:
    *seen, last = await make_files(raw, 21)
    await make_thread(raw, tool_resources=seeing(*seen))
    body = attached(last, tool="code_interpreter")
    told = answer(await raw.post(f"{THREAD}/messages", json=body))
    assert told == refusal(
        400,
        "Invalid 'attachments': too many files for the code interpreter. Expected at most 20 files in a thread, but "
        "got 21 instead.",
        param="attachments",
        code="array_above_max_length",
    )
    await post(raw, f"{THREAD}/messages", attached(seen[0], tool="code_interpreter"))
    assert await resources(raw, THREAD) == seeing(*seen)


async def test_unfit_attachments_add_no_message(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    picture = (await make_file(raw, name="a.png"))["id"]
    path = f"{THREAD}/messages"
    unknown = refusal(404, "Files [file-1] were not found")
    assert answer(await raw.post(path, json=attached("file-1"))) == unknown
    body = {"role": "user", "content": "Hi", "attachments": [{"file_id": "file-1"}]}
    assert answer(await raw.post(path, json=body)) == unknown
    refused = await raw.post(path, json=attached(picture))
    assert refused.json()["error"]["code"] == "unsupported_file"
    told = answer(await raw.post("/threads", json={"messages": [attached("31abac64")]}))
    assert told == refusal(
        400,
        "Invalid 'messages[0].attachments[0].file_id': '31abac64'. Expected an ID that begins with 'file'.",
        param="messages[0].attachments[0].file_id",
        code="invalid_value",
    )
    assert (await get(raw, path))["data"] == []
    assert await resources(raw, THREAD) == {}
    assert (await get(raw, "/vector_stores"))["data"] == []


async def test_nothing_is_attached_while_a_run_is_active(raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    assistant = await make_assistant(raw)
    await make_thread(raw, "Hi")
    await post(raw, f"{THREAD}/runs", {"assistant_id": assistant["id"]})
    assert (await raw.post(f"{THREAD}/messages", json=attached(file))).status_code == 400
    assert await resources(raw, THREAD) == {}


async def test_nothing_is_attached_to_an_expired_store(
    raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    one, two = await make_files(raw, 2)
    await make_thread(raw)
    await post(raw, f"{THREAD}/messages", attached(one))
    clock.advance(WEEK)
    told = answer(await raw.post(f"{THREAD}/messages", json=attached(two)))
    assert told == refusal(400, f"Vector store '{nth('vs')}' has expired.")


async def test_a_thread_whose_store_was_deleted_gets_another(raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    await make_thread(raw)
    await post(raw, f"{THREAD}/messages", attached(file))
    await raw.delete(STORE)
    assert await resources(raw, THREAD) == searching()
    await post(raw, f"{THREAD}/messages", attached(file))
    assert await resources(raw, THREAD) == searching(nth("vs", 2))


async def test_messages_of_a_new_thread_share_a_store(raw: httpx2.AsyncClient) -> None:
    one, two, three = await make_files(raw, 3)
    messages = [attached(one, two), attached(two), attached(three, tool="code_interpreter")]
    made = await post(raw, "/threads", {"messages": messages})
    assert made["tool_resources"] == searching(nth("vs")) | seeing(three)
    assert await get(raw, THREAD) == made
    assert await files_in(raw, STORE) == [one, two]


async def test_messages_that_come_with_a_run_bring_their_files(raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    assistant = (await make_assistant(raw, instructions="Be brief."))["id"]
    await make_thread(raw)
    body = {"assistant_id": assistant, "additional_messages": [attached(file)]}
    await post(raw, f"{THREAD}/runs", body)
    assert await resources(raw, THREAD) == searching(nth("vs"))
    run = await post(
        raw, "/threads/runs", {"assistant_id": assistant, "thread": {"messages": [attached(file)]}}
    )
    made = await resources(raw, f"/threads/{run['thread_id']}")
    assert made == searching(nth("vs", 2))


# What assistants and threads are given


@pytest.mark.parametrize(("kind", "fields"), [("assistants", {"model": "m"}), ("threads", {})])
async def test_a_store_is_made_for_an_assistant_or_a_thread(
    raw: httpx2.AsyncClient, kind: str, fields: Json
) -> None:
    ids = await make_files(raw, 2)
    helper = {"file_ids": ids, "chunking_strategy": SMALL, "metadata": {"a": "1"}}
    given = {"file_search": {"vector_stores": [helper], "vector_store_ids": None}}
    made = await post(raw, f"/{kind}", fields | {"tool_resources": given})
    assert made["tool_resources"] == searching(nth("vs"))
    assert await get(raw, f"/{kind}/{made['id']}") == made
    store = await get(raw, STORE)
    assert store["metadata"] == {"a": "1"}
    assert store["expires_at"] == (NOW + WEEK if kind == "threads" else None)
    page = await get(raw, f"{STORE}/files", order="asc")
    assert [file["id"] for file in page["data"]] == ids
    assert [file["chunking_strategy"] for file in page["data"]] == [SMALL, SMALL]


async def test_an_empty_store_can_be_made(raw: httpx2.AsyncClient) -> None:
    helper = {"file_ids": None, "chunking_strategy": None, "metadata": None}
    given = {"file_search": {"vector_store_ids": [], "vector_stores": [helper]}}
    made = await make_assistant(raw, tool_resources=given)
    assert made["tool_resources"] == searching(nth("vs"))
    assert (await get(raw, STORE))["file_counts"] == counts()


async def test_a_store_is_named_or_made_but_not_both(raw: httpx2.AsyncClient) -> None:
    store = (await make_store(raw))["id"]
    given: Json = {"file_search": {"vector_store_ids": [store], "vector_stores": [{}]}}
    told = answer(await raw.post("/threads", json={"tool_resources": given}))
    path = "tool_resources.file_search"
    assert told == refusal(
        400,
        f"Mutually exclusive parameters: '{path}.vector_store_ids'. Ensure you are only providing one of: "
        f"'{path}.vector_store_ids' or '{path}.vector_stores'.",
        param=f"{path}.vector_store_ids",
        code="mutually_exclusive_parameters",
    )


async def test_stores_are_made_with_their_owner_only(raw: httpx2.AsyncClient) -> None:
    body: Json = {"tool_resources": {"file_search": {"vector_stores": [{}]}}}
    assistant = (await make_assistant(raw))["id"]
    await make_thread(raw)
    run = {"assistant_id": assistant, "thread": {"messages": [attached()]}}
    for path, more in ((f"/assistants/{assistant}", {}), (THREAD, {}), ("/threads/runs", run)):
        error = (await raw.post(path, json=more | body)).json()["error"]
        assert error["code"] == "unknown_parameter", path
        assert error["param"] == "tool_resources.file_search.vector_stores"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (searching("vs_1"), "No vector store found with id 'vs_1'."),
        (seeing("file-1"), "Files [file-1] were not found"),
        (
            {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}},
            "Files [file-1] were not found",
        ),
    ],
)
async def test_unknown_resources_are_refused(
    raw: httpx2.AsyncClient, given: Json, message: str
) -> None:
    body = {"tool_resources": given}
    missing = refusal(404, message)
    assistant = (await make_assistant(raw, instructions="Be brief."))["id"]
    await make_thread(raw)
    assert answer(await raw.post("/assistants", json={"model": "m"} | body)) == missing
    assert answer(await raw.post("/threads", json=body)) == missing
    if "vector_stores" not in given.get("file_search", {}):
        assert answer(await raw.post(f"/assistants/{assistant}", json=body)) == missing
        assert answer(await raw.post(THREAD, json=body)) == missing
        run = {"assistant_id": assistant} | body
        assert answer(await raw.post("/threads/runs", json=run)) == missing
    assert len((await get(raw, "/assistants"))["data"]) == 1


async def test_a_deleted_store_is_named_no_more(raw: httpx2.AsyncClient) -> None:
    kept = (await make_store(raw))["id"]
    store = (await make_store(raw))["id"]
    one = await make_assistant(raw, tool_resources=searching(store) | seeing())
    two = await make_assistant(raw, tool_resources=searching(kept))
    thread = await make_thread(raw, tool_resources=searching(store))
    await raw.delete(f"/vector_stores/{store}")
    assert await resources(raw, f"/assistants/{one['id']}") == searching() | seeing()
    listed = await get(raw, "/assistants", order="asc")
    assert [each["tool_resources"] for each in listed["data"]] == [
        searching() | seeing(),
        two["tool_resources"],
    ]
    assert await resources(raw, f"/threads/{thread['id']}") == searching()
    assert (await get(raw, "/threads"))["data"][0]["tool_resources"] == searching()
    changed = await post(raw, f"/assistants/{one['id']}", {"tool_resources": seeing()})
    assert changed["tool_resources"] == searching() | seeing()


async def test_a_deleted_file_is_seen_no_more(raw: httpx2.AsyncClient) -> None:
    one, two = await make_files(raw, 2)
    await make_thread(raw, tool_resources=seeing(one, two))
    await raw.delete(f"/files/{one}")
    assert await resources(raw, THREAD) == seeing(two)


async def test_modifying_replaces_the_store(still: Running, raw: httpx2.AsyncClient) -> None:
    file = (await make_file(raw))["id"]
    old, new = (await make_store(raw))["id"], (await make_store(raw))["id"]
    made = await attach(raw, old, file)
    assert made["chunking_strategy"] == AUTO
    await ingest(still, old, file, "Text")
    await make_thread(raw, tool_resources=searching(old))
    await post(raw, THREAD, {"tool_resources": searching(new)})
    assert await resources(raw, THREAD) == searching(new)
    assert await files_in(raw, STORE) == [file]
