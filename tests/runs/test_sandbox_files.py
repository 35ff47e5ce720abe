"""What is kept of the files that code writes, and what answers link."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.runs.driver import Api, parsed_all
from tests.runs.sandboxes import (
    cell,
    coding,
    content_of,
    heard,
    kept,
    linked,
    links_of,
    listed,
    run_cell,
    upload,
)
from tests.support.server import Running
from threadloom.files.sweeping import SKEW
from threadloom.runs.tools import BuiltInTools
from threadloom.testing import FakeSandbox, FrozenClock, ScriptedModel
from threadloom.testing.sandbox import Writes

OTHER = b"year,sales\n2025,9\n"
LINK = "Here: [out](sandbox:/mnt/data/out.csv)."


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


# What is kept


async def test_a_new_sandbox_gets_what_the_old_one_had(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    file_id = await upload(api)
    talk = await coding(api, file_id)
    sandbox.then(Writes("out.csv", b"1"), Writes("charts/a.txt", b"a"))
    await run_cell(talk, model)
    sandbox.then(Writes("out.csv", b"22"), Writes("sales.csv", OTHER))
    await run_cell(talk, model)
    before = dict(sandbox.content(talk.thread))
    sandbox.lose(talk.thread)
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == before
    assert sandbox.sessions[talk.thread].links == {file_id: "sales.csv"}
    assert await kept(server, talk) == {"charts/a.txt": 1, "out.csv": 2, file_id: len(OTHER)}
    assert listed(model) == [
        f"- /mnt/data/sales.csv ({file_id}, {len(OTHER)} bytes)",
        "- /mnt/data/charts/a.txt (1 bytes)",
        "- /mnt/data/out.csv (2 bytes)",
    ]


async def test_what_code_removes_does_not_come_back(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"), Writes("left.csv", b"2"))
    await run_cell(talk, model)
    removed = asyncio.Event()
    sandbox.began.clear()
    sandbox.then(removed)
    model.calls(cell())
    model.says("Done.")
    run = await talk.run()
    await sandbox.began.wait()
    del sandbox.content(talk.thread)["out.csv"]
    removed.set()
    await talk.rested(run)
    assert await kept(server, talk) == {"left.csv": 1}


async def test_what_was_not_listed_among_many_is_kept(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"))
    await run_cell(talk, model)
    many = asyncio.Event()
    sandbox.began.clear()
    sandbox.then(many)
    model.calls(cell())
    model.says("Done.")
    run = await talk.run()
    await sandbox.began.wait()
    del sandbox.content(talk.thread)["out.csv"]
    sandbox.content(talk.thread).update({"a": b"", "b": b""})
    sandbox.most_listed = 1
    many.set()
    await talk.rested(run)
    assert await kept(server, talk) == {"out.csv": 1}


async def test_what_a_cancelled_call_wrote_is_kept_with_the_next(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"))
    await run_cell(talk, model)
    sandbox.began.clear()
    sandbox.then(Writes("out.csv", b"22"), Writes("more.csv", b"333"), asyncio.Event())
    model.calls(cell())
    run = await talk.run()
    await sandbox.began.wait()
    await talk.cancel(run)
    assert (await talk.rested(run))["status"] == "cancelled"
    assert await kept(server, talk) == {"out.csv": 1}
    await run_cell(talk, model, LINK)
    assert await kept(server, talk) == {"out.csv": 2, "more.csv": 3}
    assert await content_of(api, await linked(talk)) == b"22"
    await run_cell(talk, model)
    assert "Written" not in heard(model)


async def test_a_file_that_cannot_come_out_is_told(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"))
    await run_cell(talk, model)
    sandbox.refuses("out.csv", "It is not a regular file.")
    sandbox.then(Writes("out.csv", b"2"), Writes("more.csv", b"3"))
    await run_cell(talk, model, LINK)
    told = heard(model).splitlines()
    assert "- /mnt/data/out.csv was not kept: It is not a regular file." in told
    assert "- Written: [more.csv](sandbox:/mnt/data/more.csv)." in told
    assert await kept(server, talk) == {"more.csv": 1}
    assert links_of((await talk.messages())[-1]) == []


@pytest.mark.parametrize("settings", [{"code_interpreter": {"disk": 1024 * 1024, "max_files": 2}}])
async def test_what_is_kept_of_a_call_is_bounded(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    settings: Mapping[str, Any],
) -> None:
    talk = await coding(api)
    half = b"x" * 600_000
    sandbox.then(Writes("a", half), Writes("b", half), Writes("c", b"c"))
    await run_cell(talk, model)
    assert await kept(server, talk) == {"a": len(half)}
    assert "/mnt/data/b was not kept" in heard(model)


@pytest.mark.parametrize("settings", [{"code_interpreter": {"disk": 1024 * 1024}}])
async def test_what_is_kept_of_a_thread_is_bounded(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    settings: Mapping[str, Any],
) -> None:
    talk = await coding(api)
    large = b"x" * 600_000
    sandbox.then(Writes("a", large))
    await run_cell(talk, model)
    sandbox.then(Writes("b", large), Writes("c", b"c"))
    await run_cell(talk, model)
    assert await kept(server, talk) == {"a": len(large), "c": 1}
    assert "/mnt/data/b was not kept" in heard(model)
    sandbox.then(Writes("a", b"a"), Writes("b", large))
    await run_cell(talk, model)
    assert await kept(server, talk) == {"a": 1, "b": len(large), "c": 1}


TWO_FILES = [{"code_interpreter": {"max_files": 2}}]


@pytest.mark.parametrize("settings", TWO_FILES)
async def test_files_beyond_the_bound_of_a_call_are_kept_by_the_next(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    settings: Mapping[str, Any],
) -> None:
    talk = await coding(api)
    sandbox.then(*(Writes(name, b"1") for name in ("a", "b", "c", "out.csv")))
    await run_cell(talk, model)
    assert await kept(server, talk) == {"a": 1, "b": 1}
    await run_cell(talk, model, LINK)
    assert await kept(server, talk) == {"a": 1, "b": 1, "c": 1, "out.csv": 1}
    assert await content_of(api, await linked(talk)) == b"1"


@pytest.mark.parametrize("settings", TWO_FILES)
async def test_an_older_content_is_not_linked_when_the_new_one_is_beyond_the_bound(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    settings: Mapping[str, Any],
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"old"))
    await run_cell(talk, model)
    sandbox.then(Writes("a", b"1"), Writes("b", b"1"), Writes("out.csv", b"newer"))
    await run_cell(talk, model, LINK)
    assert links_of((await talk.messages())[-1]) == []
    assert await kept(server, talk) == {"a": 1, "b": 1}
    await run_cell(talk, model, LINK)
    assert await content_of(api, await linked(talk)) == b"newer"


@pytest.mark.parametrize("settings", [{"code_interpreter": {"disk": 1024 * 1024}}])
async def test_a_file_that_was_too_large_is_kept_once_there_is_room(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    settings: Mapping[str, Any],
) -> None:
    talk = await coding(api)
    large = b"x" * 600_000
    sandbox.then(Writes("a", large), Writes("b", large))
    await run_cell(talk, model)
    assert await kept(server, talk) == {"a": len(large)}
    removed = asyncio.Event()
    sandbox.began.clear()
    sandbox.then(removed)
    model.calls(cell())
    model.says("Done.")
    run = await talk.run()
    await sandbox.began.wait()
    del sandbox.content(talk.thread)["a"]
    removed.set()
    await talk.rested(run)
    assert await kept(server, talk) == {"b": len(large)}


async def test_links_for_the_model_are_links_in_markdown(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("a b/größe (1).csv", b"1"))
    await run_cell(talk, model)
    assert "[größe (1).csv](sandbox:/mnt/data/a%20b/größe%20%281%29.csv)" in heard(model)


# What answers link


async def test_a_linked_file_becomes_a_file(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("charts/out.csv", b"1,2"))
    await run_cell(talk, model, "See sandbox:/mnt/data/charts/out.csv, please.")
    file_id = await linked(talk)
    file = await api.get(f"/files/{file_id}")
    assert (file["purpose"], file["filename"], file["bytes"]) == ("assistants_output", "out.csv", 3)
    assert await content_of(api, file_id) == b"1,2"
    model.says("Again sandbox:/mnt/data/charts/out.csv!")
    await talk.ask()
    assert await linked(talk) == file_id
    assert len((await api.get("/files"))["data"]) == 1


async def test_a_link_that_the_model_was_given_is_found(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("a b/größe (1).csv", b"1"))
    await run_cell(talk, model)
    given = heard(model).rpartition("Written: ")[2]
    model.says(given)
    await talk.ask()
    assert await content_of(api, await linked(talk)) == b"1"


async def test_a_changed_file_is_another_file(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"old"))
    await run_cell(talk, model, LINK)
    old = await linked(talk)
    sandbox.then(Writes("out.csv", b"new"))
    await run_cell(talk, model, LINK)
    new = await linked(talk)
    assert [await content_of(api, one) for one in (old, new)] == [b"old", b"new"]
    sandbox.lose(talk.thread)
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"out.csv": b"new"}


async def test_an_input_is_linked_as_it_is(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    file_id = await upload(api)
    talk = await coding(api, file_id)
    said = f"sandbox:/mnt/data/sales.csv or sandbox:/mnt/data/{file_id}"
    await run_cell(talk, model, said)
    assert links_of((await talk.messages())[-1]) == [
        ("sandbox:/mnt/data/sales.csv", file_id),
        (f"sandbox:/mnt/data/{file_id}", file_id),
    ]
    assert len((await api.get("/files"))["data"]) == 1


@pytest.mark.parametrize("settings", [{"files": {"download_all": False}}])
async def test_an_input_that_nobody_can_download_is_not_linked(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, settings: Mapping[str, Any]
) -> None:
    talk = await coding(api, await upload(api))
    await run_cell(talk, model, "sandbox:/mnt/data/sales.csv")
    assert links_of((await talk.messages())[-1]) == []
    sandbox.then(Writes("sales.csv", OTHER))
    await run_cell(talk, model, "sandbox:/mnt/data/sales.csv")
    assert await content_of(api, await linked(talk)) == OTHER


async def test_an_input_that_code_has_changed_is_linked_as_another_file(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    file_id = await upload(api)
    talk = await coding(api, file_id)
    sandbox.then(Writes("sales.csv", OTHER))
    await run_cell(talk, model, "sandbox:/mnt/data/sales.csv")
    changed = await linked(talk)
    assert changed != file_id
    assert (await api.get(f"/files/{changed}"))["filename"] == "sales.csv"
    assert await content_of(api, changed) == OTHER
    await api.delete(f"/files/{file_id}")
    await run_cell(talk, model)
    assert listed(model) == [f"- /mnt/data/{file_id} ({len(OTHER)} bytes)"]


async def test_a_link_is_streamed_after_its_file_was_made(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"))
    model.calls(cell())
    model.says("Here: [out](sandbox:/mnt/", "data/out", ".csv).")
    async with talk.streamed() as stream:
        while True:
            delta = await stream.until("thread.message.delta")
            text = delta.json["delta"]["content"][0]["text"]
            if text.get("annotations"):
                break
        (annotation,) = text["annotations"]
        assert await content_of(api, annotation["file_path"]["file_id"]) == b"1"
        await stream.rest()
    assert [event.name for event in parsed_all(stream.text)][-1] == "done"


# What is deleted


async def test_deleting_a_linked_file_leaves_the_threads_own(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running, clock: FrozenClock
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"1"), Writes("left.csv", b"2"))
    await run_cell(talk, model, LINK)
    deleted = await linked(talk)
    await api.delete(f"/files/{deleted}")
    clock.advance(SKEW + 1)
    await server.background.sweep()
    assert await kept(server, talk) == {"left.csv": 1, "out.csv": 1}
    sandbox.lose(talk.thread)
    await run_cell(talk, model, LINK)
    assert sandbox.content(talk.thread) == {"left.csv": b"2", "out.csv": b"1"}
    assert listed(model) == ["- /mnt/data/out.csv (1 bytes)", "- /mnt/data/left.csv (1 bytes)"]
    again = await linked(talk)
    assert again != deleted
    assert await content_of(api, again) == b"1"


async def test_deleting_a_linked_file_that_code_has_changed_takes_its_bytes(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running, clock: FrozenClock
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("out.csv", b"old"))
    await run_cell(talk, model, LINK)
    sandbox.then(Writes("out.csv", b"new"))
    await run_cell(talk, model)
    (file,) = (await api.get("/files"))["data"]
    await api.delete(f"/files/{file['id']}")
    clock.advance(SKEW + 1)
    await server.background.sweep()
    folder = server.context.settings.data_dir / "files"
    assert [path.read_bytes() for path in folder.rglob("*") if path.is_file()] == [b"new"]


async def test_with_a_thread_go_its_files_and_its_sandbox(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running, clock: FrozenClock
) -> None:
    talk, other = await coding(api), await coding(api)
    for one in (talk, other):
        sandbox.then(Writes("out.csv", one.thread.encode()), Writes("more.csv", b"more"))
        await run_cell(one, model, LINK)
    await api.delete(talk.path)
    await server.background.sweep()
    assert await sandbox.keys() == [other.thread]
    clock.advance(SKEW + 1)
    await server.background.sweep()
    folder = server.context.settings.data_dir / "files"
    left = sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert left == sorted([b"more", talk.thread.encode(), other.thread.encode()])


async def test_the_bytes_of_what_is_written_again_go(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running, clock: FrozenClock
) -> None:
    talk = await coding(api)
    for content in (b"1", b"2"):
        sandbox.then(Writes("out.csv", content))
        await run_cell(talk, model)
    clock.advance(SKEW + 1)
    await server.background.sweep()
    folder = server.context.settings.data_dir / "files"
    assert [path.read_bytes() for path in folder.rglob("*") if path.is_file()] == [b"2"]
