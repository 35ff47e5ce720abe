"""What people saved, in the forms in which they saved it."""

import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.api.wire import Json, get
from tests.archive.conftest import Place
from tests.archive.generator import BEGAN, assistant, id_of, thread
from tests.archive.saved import (
    file,
    in_store,
    lines,
    message,
    page,
    store,
    write_directory,
    write_tar,
    write_zip,
)
from tests.support.server import running_server
from threadloom.testing import LineParser, ScriptedModel, ScriptedModels

Write = Callable[[Path, dict[str, bytes]], Path]
CONTENTS = [b"by id", b"by id and extension", b"in a folder", b"by its own name"]
STATUS: Json = {"assistant_id": id_of("asst_", 9), "run_id": id_of("run_", 9)}


async def listed(place: Place, *paths: str) -> list[Json]:
    """What the API lists there, oldest first."""
    models = ScriptedModels(ScriptedModel())
    settings = {"data_dir": place.folder}
    async with (
        running_server(place.url, models, settings=settings, parser=LineParser()) as server,
        server.http() as http,
    ):
        pages = [await get(http, path, order="asc", limit=100) for path in paths]
        return [one for found in pages for one in found["data"]]


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_directory, "saved"), (write_zip, "saved.zip"), (write_tar, "saved.tar.gz")],
)
async def test_contents_are_found_beside_their_objects(
    write: Write, name: str, sqlite_place: Place, tmp_path: Path
) -> None:
    names = ["a.txt", "b.md", "c.json", "d.json"]
    objects = [file(n, CONTENTS[n], names[n]) for n in range(4)]
    entries = {
        "files.json": page(*objects[::-1]),
        f"{id_of('file-', 0)}": CONTENTS[0],
        f"contents/{id_of('file-', 1)}.md": CONTENTS[1],
        f"files/{id_of('file-', 2)}/anything.json": CONTENTS[2],
        "originals/d.json": CONTENTS[3],
    }
    archive = write(tmp_path / name, entries)
    report = await sqlite_place.commands.json("import", str(archive))
    assert (report["imported"], report["skipped"]) == ({"files": 4}, {})
    models = ScriptedModels(ScriptedModel())
    settings = {"data_dir": sqlite_place.folder}
    async with (
        running_server(sqlite_place.url, models, settings=settings) as server,
        server.http() as http,
    ):
        sent = await get(http, "/files", order="asc")
        assert sorted(one["id"] for one in sent["data"]) == [one["id"] for one in objects]
        for one, content in zip(objects, CONTENTS, strict=True):
            assert (await http.get(f"/files/{one['id']}/content")).content == content


async def test_files_without_their_bytes_are_left_out_and_who_names_them_is_kept(
    sqlite_place: Place, tmp_path: Path
) -> None:
    store = {"id": id_of("vs_", 1), "object": "vector_store", "created_at": BEGAN, "name": "Docs"}
    there, cut, lost = (file(n, b"Some text.", f"{n}.txt") for n in range(3))
    in_store = [
        {
            "id": one["id"],
            "object": "vector_store.file",
            "created_at": BEGAN,
            "vector_store_id": store["id"],
            "status": "completed",
            "attributes": {"year": 2024},
            "chunking_strategy": {"type": "other"},
        }
        for one in (there, lost)
    ]
    resources = {
        "file_search": {"vector_store_ids": [store["id"]]},
        "code_interpreter": {"file_ids": [lost["id"]]},
    }
    entries = {
        "all.jsonl": lines(
            there, cut, lost, store, *in_store, assistant(1) | {"tool_resources": resources}
        ),
        "0.txt": b"Some text.",
        "1.txt": b"Some",
    }
    archive = str(write_directory(tmp_path / "saved", entries))
    dry = await sqlite_place.commands.json("import", archive, "--dry-run")
    assert await listed(sqlite_place, "/files", "/vector_stores", "/assistants") == []
    report = await sqlite_place.commands.json("import", archive)
    assert report | {"dry_run": True} == dry
    assert report["imported"] == {
        "files": 1,
        "vector stores": 1,
        "vector store files": 1,
        "assistants": 1,
    }
    assert [(one["id"], one["reason"]) for one in report["reasons"]] == [
        (cut["id"], "its content, 1.txt, has 4 bytes and not 10"),
        (lost["id"], "its content is not in the archive"),
        (lost["id"], "the file itself is not there"),
    ]
    assert report["missing"] == {lost["id"]: 1}
    (kept,) = await listed(sqlite_place, "/assistants")
    assert kept["tool_resources"] == resources
    (taken,) = await listed(sqlite_place, f"/vector_stores/{store['id']}/files")
    assert (taken["id"], taken["attributes"]) == (there["id"], {"year": 2024})


@pytest.mark.parametrize(
    "entries",
    [
        {"page-1.json": page(message(4), message(3)), "page-2.json": page(message(2), message(1))},
        {f"p{n}.json": page(message(13 - n)) for n in range(9, 13)},
        {"all.json": orjson.dumps([message(1), message(2), message(3), message(4)])},
        {"all.jsonl": lines(message(1), message(2), message(3), message(4))},
        {"all.json": lines(*(message(n) for n in range(1, 5)))},
        {"all.json": b"\xef\xbb\xbf" + page(*(message(n) for n in range(4, 0, -1)))},
        {"all.json": page(*(message(n) for n in (4, 3, 2, 1))).decode().encode("utf-16")},
        {f"{n}.json": orjson.dumps(message(n)) for n in range(1, 5)},
        {
            "a.json": page(message(3, created_at=BEGAN + 1), message(4, created_at=BEGAN + 2)),
            "b.json": page(message(2), message(1)),
        },
    ],
    ids=["pages", "ten-pages", "array", "lines", "lines-in-json", "bom", "utf-16", "single", "asc"],
)
async def test_messages_keep_their_order(
    entries: dict[str, bytes], sqlite_place: Place, tmp_path: Path
) -> None:
    archive = write_directory(tmp_path / "saved", entries)
    report = await sqlite_place.commands.json("import", str(archive))
    thread_id = id_of("thread_", 1)
    assert report["imported"] == {"threads": 1, "messages": 4}
    assert report["notes"] == [f"{thread_id} was not saved: it is made for what is in it"]
    found = await listed(sqlite_place, f"/threads/{thread_id}/messages")
    assert [one["id"] for one in found] == [id_of("msg_", n) for n in range(1, 5)]


async def test_runs_and_steps_are_history(sqlite_place: Place, tmp_path: Path) -> None:
    run: Json = {
        "id": id_of("run_", 9),
        "object": "thread.run",
        "created_at": BEGAN,
        "thread_id": id_of("thread_", 1),
        "assistant_id": id_of("asst_", 9),
        "status": "completed",
        "model": "gpt-4o",
        "instructions": None,
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_token_details": None,
        },
    }
    search: Json = {"id": "call_1", "type": "file_search", "file_search": {}}
    function = {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    step: Json = {
        "id": id_of("step_", 1),
        "object": "thread.run.step",
        "created_at": BEGAN,
        "run_id": run["id"],
        "thread_id": run["thread_id"],
        "assistant_id": run["assistant_id"],
        "type": "tool_calls",
        "status": "completed",
        "step_details": {"type": "tool_calls", "tool_calls": [search, function]},
    }
    alive = run | {"id": id_of("run_", 8), "status": "requires_action"}
    orphan = step | {"id": id_of("step_", 2), "run_id": alive["id"]}
    entries = {"all.jsonl": lines(thread(1), message(1, **STATUS), alive, run, step, orphan)}
    report = await sqlite_place.commands.json(
        "import", str(write_directory(tmp_path / "saved", entries))
    )
    assert report["imported"] == {"threads": 1, "messages": 1, "runs": 1, "run steps": 1}
    assert [(one["id"], one["reason"]) for one in report["reasons"]] == [
        (alive["id"], "it had not ended: its status was 'requires_action'"),
        (orphan["id"], "its run is not there"),
    ]
    assert report["missing"] == {id_of("asst_", 9): 3}
    path = f"/threads/{run['thread_id']}"
    runs = await listed(sqlite_place, f"{path}/runs")
    assert [(one["status"], one["usage"]["total_tokens"]) for one in runs] == [("completed", 3)]
    (shown,) = await listed(sqlite_place, f"{path}/runs/{run['id']}/steps")
    assert [one["type"] for one in shown["step_details"]["tool_calls"]] == [
        "file_search",
        "function",
    ]


async def test_one_original_serves_all_files_of_its_name_and_no_file_takes_anothers_bytes(
    sqlite_place: Place, tmp_path: Path
) -> None:
    three = [file(number, b"once", "once.txt") for number in range(3)]
    gone, other = file(3, b"mine", "a.txt"), file(4, b"else", "a.txt")
    folder = f"files/{other['id']}"
    entries = {
        "files.json": page(*three, gone, other),
        "originals/once.txt": b"once",
        f"{folder}/a.txt": b"else",
        f"files/{id_of('file-', 9)}/a.txt": b"none",
    }
    archive = write_directory(tmp_path / "saved", entries)
    report = await sqlite_place.commands.json("import", str(archive))
    assert report["imported"] == {"files": 4}
    (skipped,) = report["reasons"]
    assert (skipped["id"], skipped["reason"]) == (gone["id"], "its content is not in the archive")


async def test_what_retention_would_delete_at_once_is_not_brought_along(
    sqlite_place: Place, tmp_path: Path
) -> None:
    now = int(time.time())
    entries = {
        "a.jsonl": lines(
            *(thread(1), message(1, 1), thread(2), message(2, 2, created_at=now), message(3, 3)),
            *(file(1, b"old", "old.txt"), file(2, b"new", "new.txt", created_at=now)),
            *(store(1), in_store(1, 1), store(2, last_active_at=now), in_store(2, 2)),
            assistant(1),
        ),
        "old.txt": b"old",
        "new.txt": b"new",
    }
    archive = write_directory(tmp_path / "saved", entries)
    kinds = ("threads", "files", "vector_stores")
    variables = {f"THREADLOOM_RETENTION__{one.upper()}": "30d" for one in kinds}
    commands = type(sqlite_place.commands)(sqlite_place.commands.variables | variables)
    dry = await commands.json("import", str(archive), "--dry-run")
    report = await commands.json("import", str(archive))
    assert report | {"dry_run": True} == dry
    assert report["imported"] == {
        "files": 1,
        "vector stores": 1,
        "vector store files": 1,
        "assistants": 1,
        "threads": 1,
        "messages": 1,
    }
    told = {one["id"]: one["reason"] for one in report["reasons"]}
    why = "it is older than retention.{}: the next sweep would delete it"
    assert told == {
        id_of("thread_", 1): why.format("threads"),
        id_of("thread_", 3): why.format("threads"),
        id_of("file-", 1): why.format("files"),
        id_of("vs_", 1): why.format("vector_stores"),
    }


@pytest.mark.parametrize(
    ("write", "root"),
    [(write_directory, "saved"), (write_zip, "saved.zip"), (write_tar, "saved.tar.gz")],
)
async def test_names_that_only_begin_like_a_files_id_hide_no_objects(
    write: Write, root: str, sqlite_place: Place, tmp_path: Path
) -> None:
    short = file(4, b'{"object": "thread"}', "short.json") | {"id": "file-abc"}
    entries = {
        "assistant-support.json": orjson.dumps(assistant(1)),
        "assistant-page-1.json": page(assistant(2)),
        "file-list.json": page(file(3, b"[1]", "data.json"), short),
        "assistant-export/messages.jsonl": lines(thread(1), message(1)),
        "assistant-customerconversations/all.jsonl": lines(thread(2)),
        f"files/{id_of('file-', 3)}/data.json": b"[1]",
        "files/file-abc/short.json": b'{"object": "thread"}',
    }
    archive = str(write(tmp_path / root, entries))
    report = await sqlite_place.commands.json("import", archive)
    kinds = {"assistants": 2, "files": 2, "threads": 2, "messages": 1}
    assert (report["imported"], report["reasons"]) == (kinds, [])
    again = await sqlite_place.commands.json("import", archive)
    assert (again["present"], again["reasons"]) == (kinds, [])


async def test_one_file_of_objects_may_be_called_as_it_likes(
    sqlite_place: Place, tmp_path: Path
) -> None:
    write_directory(tmp_path, {"assistant-page-1.json": page(assistant(1))})
    report = await sqlite_place.commands.json("import", str(tmp_path / "assistant-page-1.json"))
    assert report["imported"] == {"assistants": 1}


async def test_json_that_is_content_by_its_name_but_of_no_file_is_told_of(
    sqlite_place: Place, tmp_path: Path
) -> None:
    made = id_of("assistant-", 9)
    entries = {
        "files.json": page(file(1, b"[1]", "a.json"), file(2, b"[2]", "b.json")),
        f"{id_of('file-', 1)}/a.json": b"[1]",
        f"{id_of('file-', 1)}/file.json": page(assistant(1)),
        f"{id_of('file-', 2)}/b.json": b"too long",
        f"{made}/all.jsonl": lines(thread(1)),
        f"{made}.json": page(assistant(2)),
    }
    archive = str(write_directory(tmp_path / "saved", entries))
    report = await sqlite_place.commands.json("import", archive)
    assert report["imported"] == {"files": 1}
    told = {one["where"]: one["reason"] for one in report["reasons"]}
    assert told.keys() == {
        "files.json",
        f"{id_of('file-', 1)}/file.json",
        f"{made}/all.jsonl",
        f"{made}.json",
    }
    assert told[f"{made}.json"].endswith("if it holds objects, rename it")


async def test_json_without_anything_in_it_may_be_a_files_content(
    sqlite_place: Place, tmp_path: Path
) -> None:
    entries = {"files.json": page(file(1, b"[]", "none.json")), "none.json": b"[]"}
    archive = write_directory(tmp_path / "saved", entries)
    report = await sqlite_place.commands.json("import", str(archive))
    assert (report["imported"], report["reasons"]) == ({"files": 1}, [])
