"""What was exported and imported is what was there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.api.wire import Json, make_file, make_thread, post
from tests.archive.conftest import Place
from tests.archive.generator import BEGAN, id_of, write_archive
from tests.archive.saved import page, store, write_directory
from tests.faults.processes import until
from tests.keeping.world import fill, listed
from tests.support.server import running_server
from threadloom.commands import exporting
from threadloom.llm.chat import SystemMessage
from threadloom.testing import FakeSandbox, LineParser, ScriptedModel, ScriptedModels
from threadloom.types.files import File
from threadloom.types.messages import Message
from threadloom.types.shared import Sent

MARK = "zanzibar"
NEW = Callable[[], Place]


async def objects(http: httpx2.AsyncClient) -> Json:
    """All that archives hold of a project, as its API tells it: not runs that have not ended, and no events."""
    kinds = ("assistants", "threads", "files", "vector_stores")
    found: Json = {kind: await listed(http, f"/{kind}") for kind in kinds}
    runs = await listed(http, "/runs")
    found["runs"] = [run for run in runs if run["status"] != "requires_action"]
    parts = [
        *(f"/threads/{thread['id']}/messages" for thread in found["threads"]),
        *(f"/threads/{run['thread_id']}/runs/{run['id']}/steps" for run in found["runs"]),
        *(f"/vector_stores/{store['id']}/files" for store in found["vector_stores"]),
    ]
    for path in parts:
        found[path] = await listed(http, path)
    for file in found["files"]:
        found[file["id"]] = (await http.get(f"/files/{file['id']}/content")).content
    for one in found["vector_stores"]:
        path = f"/vector_stores/{one['id']}/search"
        found[path] = (await post(http, path, {"query": MARK}))["data"]
    return found


def messages_in(found: Json) -> int:
    return sum(len(each) for path, each in found.items() if path.endswith("/messages"))


async def taken_in(http: httpx2.AsyncClient) -> bool:
    stores = (await http.get("/vector_stores")).json()["data"]
    return all(one["status"] == "completed" for one in stores)


async def test_what_is_exported_and_imported_is_what_was_there(
    new_place: NEW, model: ScriptedModel, tmp_path: Path
) -> None:
    first, second = new_place(), new_place()
    form = "archive.zip" if first.url.startswith("sqlite") else "archive"
    sandbox, archive = FakeSandbox(), str(tmp_path / form)
    async with (
        running_server(
            first.url,
            ScriptedModels(model),
            settings={"data_dir": first.folder},
            sandbox=sandbox,
            parser=LineParser(),
        ) as server,
        server.http() as http,
    ):
        await fill(server, http, model, sandbox, MARK)
        before = await objects(http)
        exported = await first.commands.json("export", archive)
    report = await second.commands.json("import", archive)
    assert exported["exported"]["messages"] == messages_in(before)
    assert report["imported"]["messages"] == messages_in(before)
    assert report["skipped"] == {"runs": 1, "run steps": 1}
    assert report["missing"] == {}
    async with (
        running_server(
            second.url,
            ScriptedModels(ScriptedModel()),
            settings={"data_dir": second.folder},
            parser=LineParser(),
        ) as server,
        server.http() as http,
    ):
        await until(lambda: taken_in(http), "the files are taken in")
        after = await objects(http)
        again = await second.commands.json("import", archive)
    assert after == before
    assert again["imported"] == {}
    assert again["present"] == report["imported"]


def numbers(report: Json) -> Json:
    return {
        kind: report["imported"].get(kind, 0) + report["present"].get(kind, 0) for kind in KINDS
    }


KINDS = {"assistants": 50, "threads": 300, "messages": 3_000}


async def test_an_import_goes_on_after_kill_and_a_stored_conversation_goes_on_after_it(
    new_place: NEW, model: ScriptedModel, tmp_path: Path
) -> None:
    place, archive = new_place(), tmp_path / "saved"
    write_archive(archive, assistants=50, threads=300, messages=3_000)
    variables = place.commands.variables | {"THREADLOOM_FAULT": "import.storing:4:kill"}
    process = await type(place.commands)(variables).process("import", str(archive))
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == -9
    assert [one.name for one in place.folder.iterdir() if one.name.startswith(".import")] == []
    report = await place.commands.json("import", str(archive))
    assert numbers(report) == KINDS
    assert 0 < report["present"]["messages"] < KINDS["messages"]
    assert report["skipped"] == {}
    thread_id, assistant_id = id_of("thread_", 7), id_of("asst_", 7)
    model.says("Gladly.")
    async with (
        running_server(
            place.url, ScriptedModels(model), settings={"data_dir": place.folder}
        ) as server,
        server.openai() as client,
    ):
        messages = [
            one async for one in client.beta.threads.messages.list(thread_id, limit=5, order="asc")
        ]
        assert [one.id for one in messages] == [id_of("msg_", 70 + one) for one in range(10)]
        assert [one.created_at for one in messages[:3]] == [BEGAN + 70, BEGAN + 70, BEGAN + 71]
        await client.beta.threads.messages.create(thread_id, role="user", content="And now?")
        run = await client.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=assistant_id
        )
        assert run.status == "completed"
        newest = (await client.beta.threads.messages.list(thread_id, limit=1)).data[0]
    assert newest.content[0].to_dict()["text"]["value"] == "Gladly."  # pyright: ignore[reportIndexIssue, reportArgumentType] - a dict
    (request,) = model.requests
    assert request.messages[0] == SystemMessage("You are assistant number 7.")
    assert len(request.messages) == 12


async def test_a_thread_that_went_on_keeps_its_order(sqlite_place: Place, tmp_path: Path) -> None:
    archive = tmp_path / "saved"
    write_archive(archive, assistants=1, threads=1, messages=4)
    models = ScriptedModels(ScriptedModel())
    pages = archive / "messages-0-1.json"
    document: dict[str, Any] = orjson.loads(pages.read_bytes())
    pages.write_bytes(orjson.dumps(document | {"data": document["data"][2:]}))
    thread_id = id_of("thread_", 0)
    before = await sqlite_place.commands.json("import", str(archive), "--dry-run")
    assert before["present"] == before["skipped"] == {}
    await sqlite_place.commands.json("import", str(archive))
    async with running_server(sqlite_place.url, models) as server, server.http() as http:
        await post(
            http, f"/threads/{thread_id}/messages", {"role": "user", "content": "Still there?"}
        )
        pages.write_bytes(orjson.dumps(document))
        report = await sqlite_place.commands.json("import", str(archive))
    assert report["present"]["messages"] == 2
    assert [one["id"] for one in report["reasons"]] == [id_of("msg_", 2), id_of("msg_", 3)]
    assert {one["reason"] for one in report["reasons"]} == {
        "its thread has newer messages already, and order is kept"
    }


@pytest.mark.parametrize("form", ["archive", "archive.zip"])
async def test_an_export_tells_of_lost_bytes_and_of_odd_names_loses_none(
    form: str, sqlite_place: Place, tmp_path: Path
) -> None:
    names = [".env", "__MACOSX", "a..b", "plain.txt", "lost.txt"]
    models, settings = ScriptedModels(ScriptedModel()), {"data_dir": sqlite_place.folder}
    async with (
        running_server(sqlite_place.url, models, settings=settings) as server,
        server.http() as http,
    ):
        made = [await make_file(http, name.encode(), name) for name in names]
        assert [one["filename"] for one in made] == names
    (lost,) = (
        path
        for path in (sqlite_place.folder / "files").rglob("*")
        if path.is_file() and path.read_bytes() == b"lost.txt"
    )
    lost.unlink()
    archive = str(tmp_path / form)
    exported = await sqlite_place.commands.json("export", archive)
    assert exported["exported"]["files"] == len(names)
    assert exported["lost"] == [made[-1]["id"]]
    assert (
        "1 files have no bytes"
        in (await sqlite_place.commands.result("export", str(tmp_path / "again"))).stderr
    )
    (tmp_path / "second").mkdir()
    second = Place(tmp_path / "second", f"sqlite:///{tmp_path / 'second' / 'threadloom.db'}")
    report = await second.commands.json("import", archive)
    assert report["imported"] == {"files": len(names) - 1}
    assert [one["id"] for one in report["reasons"]] == [made[-1]["id"]]


async def test_a_store_that_is_deleted_during_an_export_does_not_end_it(
    sqlite_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_directory(tmp_path / "saved", {"a.json": page(store(1), store(2))})
    await sqlite_place.commands.run("import", str(archive))
    read = exporting.files_of
    ids = iter(("vs_gone", id_of("vs_", 2)))

    def read_next(_: str) -> exporting.Read:
        return read(next(ids))

    monkeypatch.setattr(exporting, "files_of", read_next)
    exported = await sqlite_place.commands.json("export", str(tmp_path / "out"))
    assert exported["exported"]["vector_stores"] == 2


async def test_nothing_that_stays_is_missed_when_objects_are_deleted_during_an_export(
    new_place: NEW, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, archive = new_place(), tmp_path / "out"
    models, settings = ScriptedModels(ScriptedModel()), {"data_dir": place.folder}
    async with (
        running_server(place.url, models, settings=settings) as server,
        server.http() as http,
    ):
        files = [await make_file(http, b"text") for _ in range(4)]
        threads = [await make_thread(http, "one", "two") for _ in range(4)]
        doomed = [f"/files/{files[1]['id']}", f"/threads/{threads[1]['id']}"]
        write = exporting.lines

        def write_and_delete(page: list[Sent]) -> bytes:
            ids = {f"/files/{one.id}" for one in page if isinstance(one, File)}
            ids |= {f"/threads/{one.thread_id}" for one in page if isinstance(one, Message)}
            for path in ids.intersection(doomed):
                doomed.remove(path)
                address, headers = server.base_url + path, dict(http.headers)
                assert httpx2.delete(address, headers=headers).status_code == 200
            return write(page)

        monkeypatch.setattr(exporting, "PAGE", 2)
        monkeypatch.setattr(exporting, "lines", write_and_delete)
        exported = await place.commands.json("export", str(archive))
    assert doomed == []
    assert exported["lost"] == []
    saved = {path.stem: path.read_bytes().splitlines() for path in archive.glob("*.jsonl")}
    assert ids_in(saved["files"]) == [one["id"] for one in files]
    said = [orjson.loads(line)["thread_id"] for line in saved["messages"]]
    assert said == [one["id"] for one in threads for _ in range(2)]


def ids_in(lines: list[bytes]) -> list[str]:
    return [orjson.loads(line)["id"] for line in lines]
