"""Threads on the wire, and our own list of them."""

import httpx2
import orjson
import pytest

from tests.api.wire import (
    NOW,
    Json,
    answer,
    answers_to_all_methods,
    get,
    make_thread,
    nth,
    post,
    refusal,
)

BARE: Json = {
    "id": nth("thread"),
    "object": "thread",
    "created_at": NOW,
    "metadata": {},
    "tool_resources": {},
}
STORES: Json = {"file_search": {"vector_store_ids": []}}
CODE: Json = {"code_interpreter": {"file_ids": []}}
FORMS: list[Json] = [
    {"content": b""},
    {"content": b"", "headers": {"content-type": "application/json"}},
    {"content": b"{}", "headers": {"content-type": "text/plain"}},
    {"content": b"null"},
    {"json": {}},
    {"json": {"messages": []}},
    {"json": {"messages": None, "metadata": None, "tool_resources": None}},
    {"json": {"tool_resources": {}}},
    {"json": {"tool_resources": {"file_search": None, "code_interpreter": None}}},
]


async def test_a_thread_can_be_made_of_nothing(raw: httpx2.AsyncClient) -> None:
    made = [answer(await raw.post("/threads", **form)) for form in FORMS]
    assert made == [(200, BARE | {"id": nth("thread", n + 1)}) for n in range(len(FORMS))]


async def test_a_thread_keeps_what_it_was_given(raw: httpx2.AsyncClient) -> None:
    made = await make_thread(raw, metadata={"user": "7"}, tool_resources=STORES | CODE)
    assert made == BARE | {"metadata": {"user": "7"}, "tool_resources": STORES | CODE}
    assert await get(raw, f"/threads/{made['id']}") == made


async def test_first_messages_stand_in_their_order(raw: httpx2.AsyncClient) -> None:
    made = await make_thread(raw, "one", "two", "three")
    page = await get(raw, f"/threads/{made['id']}/messages", order="asc")
    texts = [message["content"][0]["text"]["value"] for message in page["data"]]
    assert texts == ["one", "two", "three"]


async def test_modifying_replaces_the_given_parts_whole(raw: httpx2.AsyncClient) -> None:
    made = await make_thread(raw, metadata={"a": "1", "b": "2"}, tool_resources=CODE)
    path = f"/threads/{made['id']}"
    assert await post(raw, path, {}) == made
    assert await post(raw, path, {"metadata": None, "tool_resources": None}) == made
    changed = await post(raw, path, {"metadata": {"c": "3"}})
    assert changed == made | {"metadata": {"c": "3"}}
    changed = await post(raw, path, {"tool_resources": STORES})
    assert changed == made | {"metadata": {"c": "3"}, "tool_resources": CODE | STORES}
    assert await get(raw, path) == changed


async def test_a_deleted_thread_is_gone_with_its_messages(raw: httpx2.AsyncClient) -> None:
    made = await make_thread(raw, "Hi")
    path = f"/threads/{made['id']}"
    gone = refusal(404, f"No thread found with id '{made['id']}'.")
    deleted = {"id": made["id"], "object": "thread.deleted", "deleted": True}
    assert answer(await raw.delete(path)) == (200, deleted)
    assert await answers_to_all_methods(raw, path) == [gone] * 3
    assert answer(await raw.get(f"{path}/messages")) == gone
    assert answer(await raw.get(f"{path}/messages/{nth('msg')}")) == refusal(
        404, f"No message found with id '{nth('msg')}'."
    )


async def test_an_unknown_thread_is_not_found(raw: httpx2.AsyncClient) -> None:
    refused = refusal(404, "No thread found with id 'thread_unknown'.")
    assert await answers_to_all_methods(raw, "/threads/thread_unknown") == [refused] * 3


async def test_an_id_of_another_kind_is_refused(raw: httpx2.AsyncClient) -> None:
    refused = refusal(
        400,
        "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'.",
        param="thread_id",
        code="invalid_value",
    )
    assert await answers_to_all_methods(raw, "/threads/undefined") == [refused] * 3
    assert answer(await raw.get("/threads/undefined/messages")) == refused
    assert answer(await raw.get("/threads/undefined/runs")) == refused


async def test_threads_are_listed_by_metadata(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw, metadata={"user": "1", "kind": "chat"})
    await make_thread(raw, metadata={"user": "2", "kind": "chat"})
    await make_thread(raw, metadata={"odd '$.[key]": "ü"})
    assert await listed(raw) == [nth("thread", 3), nth("thread", 2), nth("thread", 1)]
    assert await listed(raw, **{"metadata[kind]": "chat"}) == [nth("thread", 2), nth("thread", 1)]
    assert await listed(raw, **{"metadata[kind]": "chat", "metadata[user]": "1"}) == [nth("thread")]
    assert await listed(raw, **{"metadata[user]": "3"}) == []
    assert await listed(raw, **{"metadata[none]": ""}) == []
    assert await listed(raw, **{"metadata[odd '$.[key]]": "ü"}) == [nth("thread", 3)]
    assert await listed(raw, limit=1, order="asc", **{"metadata[kind]": "chat"}) == [nth("thread")]


async def listed(raw: httpx2.AsyncClient, **query: str | int) -> list[str]:
    return [thread["id"] for thread in (await get(raw, "/threads", **query))["data"]]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/threads", {"messages": "MANY"}, "messages"),
        (
            "/threads/runs",
            {"assistant_id": "asst_1", "thread": {"messages": "MANY"}},
            "thread.messages",
        ),
        (
            "/threads/thread_1/runs",
            {"assistant_id": "asst_1", "additional_messages": "MANY"},
            "additional_messages",
        ),
    ],
)
async def test_messages_of_one_request_are_bounded(
    raw: httpx2.AsyncClient, path: str, body: dict[str, object], param: str
) -> None:
    """A million would keep the database from everybody else for minutes."""
    many = orjson.dumps([{"role": "user", "content": "Hi"}] * 10_001)
    answer = await raw.post(
        path,
        content=orjson.dumps(body).replace(b'"MANY"', many),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": f"Invalid '{param}': array too long. Expected an array with maximum length 10000, but got an array "
        "with length 10001 instead.",
        "type": "invalid_request_error",
        "param": param,
        "code": "array_above_max_length",
    }
