"""`threadloom threads`."""

import httpx2

from tests.api.wire import get, make_message, make_thread, post, run_to_end
from tests.commands.running import Commands
from threadloom.testing import ScriptedModel


async def test_a_conversation_is_shown(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Bees ", "dance.\nTruly.")
    thread = (await run_to_end(http))["thread_id"]
    said = [line.strip() for line in (await threadloom.run("threads", "show", thread)).splitlines()]
    assert [line.split("  ")[0] for line in said] == ["user", "Hi", "assistant", "Bees dance.", "Truly."]  # fmt: skip
    messages = await get(http, f"/threads/{thread}/messages", order="asc")
    shown = await threadloom.json("threads", "show", thread)
    assert shown == await get(http, f"/threads/{thread}") | {"messages": messages["data"]}


async def test_long_conversations_are_shown_whole_or_in_part(
    threadloom: Commands, http: httpx2.AsyncClient
) -> None:
    thread = (await make_thread(http, *map(str, range(102))))["id"]
    shown = await threadloom.json("threads", "show", thread)
    texts = [message["content"][0]["text"]["value"] for message in shown["messages"]]
    assert texts == [str(number) for number in range(102)]
    newest = await threadloom.json("threads", "show", thread, "--limit", "2")
    assert [one["id"] for one in newest["messages"]] == [
        one["id"] for one in shown["messages"][-2:]
    ]


async def test_what_is_no_text_is_named(threadloom: Commands, http: httpx2.AsyncClient) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/bee.png"}}
    message = {"role": "user", "content": [picture, {"type": "text", "text": "\x1b[31mred"}]}
    thread = (await post(http, "/threads", {"messages": [message]}))["id"]
    shown = await threadloom.run("threads", "show", thread)
    assert "[picture https://example.com/bee.png]" in shown
    assert "red" in shown
    assert "\x1b" not in shown, "a terminal would obey what a client wrote"


async def test_threads_are_listed_and_deleted(
    threadloom: Commands, http: httpx2.AsyncClient
) -> None:
    thread = (await make_thread(http, "Hi", metadata={"user": "ann"}))["id"]
    await make_message(http, thread)
    assert '{"user":"ann"}' in await threadloom.run("threads", "list")
    assert await threadloom.json("threads", "list") == await get(http, "/threads")
    assert await threadloom.run("threads", "delete", thread) == f"Deleted {thread}."
    missing = f"No thread found with id '{thread}'."
    assert await threadloom.refused("threads", "show", thread) == missing
    assert await threadloom.refused("threads", "delete", thread) == missing
