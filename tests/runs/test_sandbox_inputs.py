"""What code finds in its sandbox: the files of assistant, thread and messages, under harmless names."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from tests.runs.driver import CODE, Api, Json, Talk
from tests.runs.sandboxes import (
    TABLE,
    attach,
    cell,
    coding,
    heard,
    links_of,
    listed,
    run_cell,
    seeing,
    upload,
)
from tests.support.server import Running
from threadloom.db.rows import FileRow, ThreadRow
from threadloom.db.tx import Tx
from threadloom.runs.sandbox_files import (
    LONGEST_NAME,
    MOST_REMEMBERED,
    distinct_names,
    remember,
    safe_name,
)
from threadloom.runs.tools import BuiltInTools
from threadloom.testing import FakeSandbox, ScriptedModel
from threadloom.testing.sandbox import Writes

OTHER = b"year,sales\n2025,9\n"
LINK = "Here: [out](sandbox:/mnt/data/out.csv)."


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


async def test_code_finds_the_files_of_assistant_thread_and_messages(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    one, two, three = [await upload(api, name.encode(), f"{name}.csv") for name in "abc"]
    talk = await coding(api, two, **seeing(one))
    await attach(talk, three)
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"a.csv": b"a", "b.csv": b"b", "c.csv": b"c"}
    links = sandbox.sessions[talk.thread].links
    assert links == {one: "a.csv", two: "b.csv", three: "c.csv"}
    assert listed(model) == [
        f"- /mnt/data/a.csv ({one}, 1 bytes)",
        f"- /mnt/data/b.csv ({two}, 1 bytes)",
        f"- /mnt/data/c.csv ({three}, 1 bytes)",
    ]


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_files_of_any_size_are_found(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, size: int
) -> None:
    talk = await coding(api, await upload(api, b"x" * size))
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"sales.csv": b"x" * size}


def test_what_is_remembered_of_threads_is_bounded() -> None:
    memory: dict[str, int] = {}
    for thread in range(MOST_REMEMBERED + 1):
        remember(memory, str(thread), thread)
        remember(memory, "1", thread)
    assert len(memory) == MOST_REMEMBERED
    assert "0" not in memory
    assert memory["1"] == MOST_REMEMBERED


async def test_a_run_s_own_files_are_found_instead_of_its_assistant_s(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    one, two = await upload(api, name="one.csv"), await upload(api, name="two.csv")
    assistant: Json = {"model": "gpt-4o", "instructions": "Count.", "tools": [CODE]}
    made = await api.post("/assistants", assistant | seeing(one))
    model.calls(cell())
    model.says("Done.")
    run = await api.post("/threads/runs", {"assistant_id": made["id"]} | seeing(two))
    await Talk(api, run["thread_id"], made["id"]).rested(run)
    assert list(sandbox.content(run["thread_id"])) == ["two.csv"]


async def test_files_that_come_later_join_those_that_code_has_changed(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api, await upload(api))
    sandbox.then(Writes("sales.csv", OTHER))
    await run_cell(talk, model)
    await attach(talk, await upload(api, b"new", "new.csv"))
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"sales.csv": OTHER, "new.csv": b"new"}


async def test_an_input_that_code_has_removed_comes_back_in_a_new_sandbox_only(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    file_id = await upload(api)
    talk = await coding(api, file_id)
    await run_cell(talk, model)
    del sandbox.content(talk.thread)["sales.csv"]
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {}
    assert sandbox.sessions[talk.thread].links == {}
    sandbox.lose(talk.thread)
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"sales.csv": TABLE}
    assert sandbox.sessions[talk.thread].links == {file_id: "sales.csv"}


@pytest.mark.parametrize("deleted", [True, False])
async def test_an_input_that_the_client_takes_away_is_gone(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, deleted: bool
) -> None:
    file_id, other = await upload(api), await upload(api, b"b", "b.csv")
    talk = await coding(api, file_id, other)
    sandbox.then(Writes("out.csv", b"1"))
    await run_cell(talk, model)
    if deleted:
        await api.delete(f"/files/{file_id}")
    else:
        await api.post(talk.path, seeing(other))
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"b.csv": b"b", "out.csv": b"1"}
    assert sandbox.sessions[talk.thread].links == {other: "b.csv"}
    await api.delete(f"/files/{other}")
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"out.csv": b"1"}
    assert sandbox.sessions[talk.thread].links == {}


async def test_what_code_made_of_an_input_that_is_taken_away_stays(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    file_id = await upload(api)
    talk = await coding(api, file_id)
    sandbox.then(Writes("sales.csv", OTHER))
    await run_cell(talk, model)
    await api.delete(f"/files/{file_id}")
    await run_cell(talk, model)
    assert listed(model) == [f"- /mnt/data/{file_id} ({len(OTHER)} bytes)"]
    assert sandbox.content(talk.thread) == {"sales.csv": OTHER}
    assert sandbox.sessions[talk.thread].links == {file_id: "sales.csv"}


async def test_a_file_takes_the_place_of_one_that_was_taken_away(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api, await upload(api))
    await run_cell(talk, model)
    await api.post(talk.path, seeing(await upload(api, OTHER)))
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"sales.csv": OTHER}


async def test_files_of_one_name_are_told_apart(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    one, two = await upload(api), await upload(api, OTHER)
    talk = await coding(api, one, two)
    await run_cell(talk, model)
    second = f"sales-{two[-8:]}.csv"
    assert sandbox.content(talk.thread) == {"sales.csv": TABLE, second: OTHER}
    assert sandbox.sessions[talk.thread].links == {one: "sales.csv", two: second}


async def test_an_input_leaves_the_name_of_what_code_wrote(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    sandbox.then(Writes("sales.csv", OTHER))
    await run_cell(talk, model)
    file_id = await upload(api)
    await attach(talk, file_id)
    await run_cell(talk, model)
    beside = f"sales-{file_id[-8:]}.csv"
    assert sandbox.content(talk.thread) == {"sales.csv": OTHER, beside: TABLE}
    sandbox.lose(talk.thread)
    await run_cell(talk, model)
    assert sandbox.content(talk.thread) == {"sales.csv": OTHER, beside: TABLE}
    assert listed(model) == [
        f"- /mnt/data/{beside} ({file_id}, {len(TABLE)} bytes)",
        f"- /mnt/data/sales.csv ({len(OTHER)} bytes)",
    ]


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("sales.csv", "sales.csv"),
        ("Umsätze 2024 (neu).xlsx", "Umsätze 2024 (neu).xlsx"),
        ("a/b\0c\nd\u2028e.csv", "a_b_c_d_e.csv"),
        ("..", "_."),
        (".bashrc", "_bashrc"),
        ("--rf", "_-rf"),
        ("", "_"),
        ("half \ud83d.csv", "half ?.csv"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
        ("é" * 300 + ".csv", "é" * 98 + ".csv"),
        ("a." + "b" * 300, "a." + "b" * 198),
    ],
)
def test_names_are_harmless(filename: str, name: str) -> None:
    assert safe_name(filename) == name


NAMES = st.lists(st.text(max_size=8) | st.sampled_from(["a.csv", "file-1", "b"]), max_size=8)


@given(NAMES, st.sets(st.text(max_size=3) | st.sampled_from(["a.csv", "b"])))
def test_names_are_distinct(filenames: list[str], taken: set[str]) -> None:
    files = [FileRow(id=f"file-{at}", filename=name) for at, name in enumerate(filenames)]
    names = distinct_names(files, taken)
    used = list(names.values())
    assert len(set(used)) == len(used)
    assert taken.isdisjoint(used)
    for name in used:
        assert len(name.encode()) <= LONGEST_NAME + 40
        assert "/" not in name
        assert name not in ("", ".", "..")


async def test_files_of_another_project_are_not_found(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    async with server.http(await server.new_key("other")) as http:
        foreign = await upload(Api(http), b"secret", "secret.csv")
    talk = await coding(api)

    def name_it(tx: Tx) -> None:
        seen = {"code_interpreter": {"file_ids": [foreign]}}
        named = update(ThreadRow).where(ThreadRow.id == talk.thread)
        tx.session.execute(named.values(tool_resources=seen))

    await server.database.write(name_it)
    await run_cell(talk, model, answer=f"[x](sandbox:/mnt/data/{foreign})")
    assert sandbox.content(talk.thread) == {}
    assert links_of((await talk.messages())[-1]) == []


async def test_threads_have_sandboxes_of_their_own(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    one, two = await coding(api), await coding(api)
    sandbox.then(Writes("out.csv", b"1"))
    await run_cell(one, model)
    await run_cell(two, model, LINK)
    assert sandbox.content(one.thread) == {"out.csv": b"1"}
    assert sandbox.content(two.thread) == {}
    assert listed(model) == []
    assert links_of((await two.messages())[-1]) == []


async def test_a_file_that_cannot_go_in_is_told(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api, await upload(api), await upload(api, b"b", "b.csv"))
    sandbox.refuses("sales.csv", "There is no room for the file in the sandbox.")
    await run_cell(talk, model)
    assert (
        "- /mnt/data/sales.csv could not be put into the sandbox: There is no room for the file in the sandbox."
        in heard(model).splitlines()
    )
    assert sandbox.content(talk.thread) == {"b.csv": b"b"}


@pytest.mark.parametrize("settings", [{"code_interpreter": {"disk": 1024 * 1024}}])
async def test_a_file_that_is_larger_than_the_disk_is_not_even_sent(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, settings: Mapping[str, Any]
) -> None:
    talk = await coding(api, await upload(api, b"x" * (1024 * 1024 + 1)))
    await run_cell(talk, model)
    assert "The sandbox's disk has no room for it" in heard(model)
    assert sandbox.content(talk.thread) == {}


@pytest.mark.parametrize("settings", [{"code_interpreter": {"disk": 1024 * 1024}}])
async def test_files_that_do_not_fit_together_are_not_even_sent(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, settings: Mapping[str, Any]
) -> None:
    large = b"x" * 600_000
    ids = [await upload(api, large, "a"), await upload(api, large, "b"), await upload(api, b"c")]
    talk = await coding(api, *ids)
    await run_cell(talk, model)
    assert "/mnt/data/b could not be put into the sandbox" in heard(model)
    assert sandbox.content(talk.thread) == {"a": large, "sales.csv": b"c"}


async def test_an_input_whose_bytes_are_missing_is_told(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api, await upload(api), await upload(api, b"b", "b.csv"))
    for path in (server.context.settings.data_dir / "files").rglob("*"):
        if path.is_file() and path.read_bytes() == TABLE:
            path.unlink()
    await run_cell(talk, model)
    assert "/mnt/data/sales.csv could not be put into the sandbox" in heard(model)
    assert sandbox.content(talk.thread) == {"b.csv": b"b"}
