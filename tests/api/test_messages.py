"""Messages on the wire: forms of content, the lock of an active run."""

from typing import Any

import httpx2

from tests.api.wire import (
    NOW,
    Json,
    answer,
    answers_to_all_methods,
    get,
    make_assistant,
    make_file,
    make_message,
    make_run,
    make_thread,
    nth,
    post,
    refusal,
    run_to_end,
)
from threadloom.testing import ScriptedModel

BARE: Json = {
    "id": nth("msg"),
    "object": "thread.message",
    "created_at": NOW,
    "assistant_id": None,
    "thread_id": nth("thread"),
    "run_id": None,
    "status": "completed",
    "incomplete_details": None,
    "incomplete_at": None,
    "completed_at": NOW,
    "role": "user",
    "content": [{"type": "text", "text": {"value": "Hi", "annotations": []}}],
    "attachments": [],
    "metadata": {},
}
URL = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
FILE = {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "high"}}
PATH = f"/threads/{nth('thread')}/messages"


def text(value: str) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": []}}


CONTENTS: list[tuple[Any, list[Json]]] = [
    ("Hi", [text("Hi")]),
    ("", [text("")]),
    ('ü 漢 🙂 \n\t"\\ \u2028', [text('ü 漢 🙂 \n\t"\\ \u2028')]),
    ([{"type": "text", "text": "Hi"}], [text("Hi")]),
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [text("a"), text("b")]),
    ([URL, FILE], [URL, FILE]),
    (
        [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            {"type": "image_file", "image_file": {"file_id": "file-1"}},
        ],
        [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64,AA==", "detail": "auto"},
            },
            {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        ],
    ),
    ("x" * 256_000, [text("x" * 256_000)]),
]


async def test_a_new_message_has_its_defaults(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    made = await post(raw, PATH, {"role": "user", "content": "Hi"})
    assert made == BARE
    assert await get(raw, f"{PATH}/{made['id']}") == made


async def test_content_comes_in_several_forms(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    made = [await post(raw, PATH, {"role": "user", "content": sent}) for sent, _ in CONTENTS]
    assert [message["content"] for message in made] == [stored for _, stored in CONTENTS]


async def test_a_client_may_speak_for_the_assistant(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    made = await post(raw, PATH, {"role": "assistant", "content": "Hi", "metadata": {"a": "1"}})
    assert made == BARE | {"role": "assistant", "metadata": {"a": "1"}}


async def test_attachments_are_echoed(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    one, two = (await make_file(raw))["id"], (await make_file(raw))["id"]
    attachments = [
        {"file_id": one, "tools": [{"type": "code_interpreter"}, {"type": "file_search"}]},
        {"file_id": two},
    ]
    body = {"role": "user", "content": "Hi", "attachments": attachments}
    assert (await post(raw, PATH, body))["attachments"] == attachments


async def test_modifying_replaces_the_metadata_whole(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw)
    made = await post(raw, PATH, {"role": "user", "content": "Hi", "metadata": {"a": "1"}})
    path = f"{PATH}/{made['id']}"
    assert await post(raw, path, {}) == made
    assert await post(raw, path, {"metadata": None}) == made
    assert await post(raw, path, {"metadata": {"b": "2"}}) == made | {"metadata": {"b": "2"}}
    assert await post(raw, path, {"metadata": {}}) == made | {"metadata": {}}


async def test_a_deleted_message_is_gone(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw, "Hi")
    path = f"{PATH}/{nth('msg')}"
    deleted = {"id": nth("msg"), "object": "thread.message.deleted", "deleted": True}
    gone = refusal(404, f"No message found with id '{nth('msg')}'.")
    assert answer(await raw.delete(path)) == (200, deleted)
    assert await answers_to_all_methods(raw, path) == [gone] * 3


async def test_a_message_is_found_in_its_own_thread_only(raw: httpx2.AsyncClient) -> None:
    await make_thread(raw, "Hi")
    other = await make_thread(raw)
    path = f"/threads/{other['id']}/messages/{nth('msg')}"
    missing = refusal(404, f"No message found with id '{nth('msg')}'.")
    assert await answers_to_all_methods(raw, path) == [missing] * 3


async def test_an_id_of_another_kind_is_refused(raw: httpx2.AsyncClient) -> None:
    refused = refusal(
        400,
        "Invalid 'message_id': 'undefined'. Expected an ID that begins with 'msg'.",
        param="message_id",
        code="invalid_value",
    )
    assert await answers_to_all_methods(raw, f"{PATH}/undefined") == [refused] * 3


async def test_messages_belong_to_a_thread(raw: httpx2.AsyncClient) -> None:
    missing = refusal(404, "No thread found with id 'thread_unknown'.")
    message = {"role": "user", "content": "Hi"}
    assert answer(await raw.post("/threads/thread_unknown/messages", json=message)) == missing
    assert answer(await raw.get("/threads/thread_unknown/messages")) == missing


async def test_an_active_run_locks_its_thread(raw: httpx2.AsyncClient) -> None:
    run = await make_run(raw)
    thread_id = run["thread_id"]
    refused = await raw.post(
        f"/threads/{thread_id}/messages", json={"role": "user", "content": "Hi"}
    )
    assert answer(refused) == refusal(
        400, f"Can't add messages to {thread_id} while a run {run['id']} is active."
    )
    again = {
        "assistant_id": run["assistant_id"],
        "additional_messages": [{"role": "user", "content": "More"}],
    }
    assert answer(await raw.post(f"/threads/{thread_id}/runs", json=again)) == refusal(
        400, f"Thread {thread_id} already has an active run {run['id']}."
    )
    assert len((await get(raw, f"/threads/{thread_id}/messages"))["data"]) == 1


async def test_reading_and_metadata_stay_open_while_a_run_is_active(
    raw: httpx2.AsyncClient,
) -> None:
    run = await make_run(raw)
    metadata = {"metadata": {"a": "1"}}
    for path in ("", f"/messages/{nth('msg')}", f"/runs/{run['id']}"):
        changed = await post(raw, f"/threads/{run['thread_id']}{path}", metadata)
        assert changed["metadata"] == {"a": "1"}


async def test_messages_can_be_listed_by_run(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    path = f"/threads/{run['thread_id']}/messages"
    page = await get(http, path, run_id=run["id"])
    assert [message["role"] for message in page["data"]] == ["assistant"]
    assert page["data"][0]["assistant_id"] == run["assistant_id"]
    nothing: Json = {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    assert await get(http, path, run_id="run_unknown") == nothing


async def test_an_assistants_message_is_whole_on_the_wire(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hel", "lo")
    run = await run_to_end(http)
    page = await get(http, f"/threads/{run['thread_id']}/messages", limit=1)
    message = page["data"][0]
    assert message == BARE | {
        "id": message["id"],
        "created_at": message["created_at"],
        "completed_at": message["completed_at"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "role": "assistant",
        "content": [text("Hello")],
    }


async def test_more_messages_can_follow_an_ended_run(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    assert (await make_message(http, run["thread_id"]))["role"] == "user"


async def test_additional_messages_stand_before_the_answer(
    http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http, additional_messages=[{"role": "user", "content": "More"}])
    page = await get(http, f"/threads/{run['thread_id']}/messages", order="asc")
    assert [message["content"][0]["text"]["value"] for message in page["data"]] == [
        "Hi",
        "More",
        "Hello",
    ]


async def test_an_assistant_without_instructions_needs_a_message(raw: httpx2.AsyncClient) -> None:
    assistant = await make_assistant(raw)
    thread = await make_thread(raw)
    refused = await raw.post(
        f"/threads/{thread['id']}/runs", json={"assistant_id": assistant["id"]}
    )
    assert answer(refused) == refusal(
        400,
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        code="invalid_thread",
    )
