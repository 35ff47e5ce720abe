"""What was imported, deleted and imported again; and ids that are not of our own form."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from tests.api.wire import Json, get, post, succeeded
from tests.archive.conftest import Place
from tests.archive.generator import assistant, id_of
from tests.archive.saved import file, in_store, message, page, store, write_directory
from tests.archive.test_round_trip import MARK, NEW, taken_in
from tests.faults.processes import until
from tests.support.server import Running, running_server
from threadloom.db.rows import IdempotencyRow
from threadloom.db.tx import Tx
from threadloom.testing import LineParser, ScriptedModel, ScriptedModels

TEXT = f"The word is {MARK}.\n".encode()
KEY = {"Idempotency-Key": "once"}


@asynccontextmanager
async def serving(place: Place) -> AsyncGenerator[tuple[Running, httpx2.AsyncClient]]:
    models, settings = ScriptedModels(ScriptedModel()), {"data_dir": place.folder}
    async with (
        running_server(place.url, models, settings=settings, parser=LineParser()) as server,
        server.http() as http,
    ):
        yield server, http


async def replayed(http: httpx2.AsyncClient, path: str, body: Json) -> bool:
    """Whether a request with a key gets the answer that it got before."""
    response = await http.post(path, json=body, headers=KEY)
    succeeded(response)
    return "idempotent-replayed" in response.headers


async def found(http: httpx2.AsyncClient) -> list[str]:
    """The names of the files in which a search of the first vector store finds the mark."""
    await until(lambda: taken_in(http), "the file is taken in")
    results = await post(http, f"/vector_stores/{id_of('vs_', 1)}/search", {"query": MARK})
    return [one["filename"] for one in results["data"]]


async def test_a_store_that_comes_back_is_searched_as_before(
    new_place: NEW, tmp_path: Path
) -> None:
    place = new_place()
    saved = page(file(1, TEXT, "a.txt"), store(1), in_store(1, 1))
    archive = write_directory(tmp_path / "saved", {"a.json": saved, "a.txt": TEXT})
    await place.commands.run("import", str(archive))
    async with serving(place) as (_, http):
        assert await found(http) == ["a.txt"]
        succeeded(await http.delete(f"/vector_stores/{id_of('vs_', 1)}"))
        report = await place.commands.json("import", str(archive))
        assert report["imported"] == {"vector stores": 1, "vector store files": 1}
        assert await found(http) == ["a.txt"]


async def test_what_comes_back_is_not_forgotten_as_if_it_were_deleted(
    new_place: NEW, tmp_path: Path
) -> None:
    place, path = new_place(), f"/assistants/{id_of('asst_', 1)}"
    archive = write_directory(tmp_path / "saved", {"a.json": page(assistant(2), assistant(1))})
    await place.commands.run("import", str(archive))
    async with serving(place) as (server, http):
        assert not await replayed(http, path, {"name": MARK})
        succeeded(await http.delete(path))
        await server.background.sweep()
        await place.commands.run("import", str(archive))
        assert not await replayed(http, path, {"name": MARK})
        await server.background.sweep()
        assert await replayed(http, path, {"name": MARK})
        older = await get(http, "/assistants", after=id_of("asst_", 1))
        assert [one["id"] for one in older["data"]] == [id_of("asst_", 2)]


def kept_answers(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(IdempotencyRow)) or 0


@pytest.mark.parametrize("file_id", ["assistant-Abc_1-2", "file_Abc", "file-Abc_1-2"])
async def test_an_imported_file_is_used_and_deleted_like_any_other(
    new_place: NEW, tmp_path: Path, file_id: str
) -> None:
    place = new_place()
    saved = page(file(1, TEXT, "a.txt", id=file_id), file(2, TEXT, "a.txt"), store(1))
    archive = write_directory(tmp_path / "saved", {"a.json": saved, "a.txt": TEXT})
    await place.commands.run("import", str(archive))
    async with serving(place) as (server, http):
        code = {"code_interpreter": {"file_ids": [file_id, id_of("file-", 2)]}}
        body = {"model": "scripted", "tools": [{"type": "code_interpreter"}]}
        made = succeeded(
            await http.post("/assistants", json=body | {"tool_resources": code}, headers=KEY)
        )
        attached = {"file_id": file_id, "tools": [{"type": "code_interpreter"}]}
        said = {"role": "user", "content": "Look.", "attachments": [attached]}
        thread = await post(http, "/threads", {"messages": [said]})
        files = f"/vector_stores/{id_of('vs_', 1)}/files"
        await post(http, files, {"file_id": file_id})
        assert (await get(http, f"{files}/{file_id}"))["id"] == file_id
        assert await found(http) == ["a.txt"]
        succeeded(await http.delete(f"/files/{file_id}"))
        for path in (f"/assistants/{made['id']}", f"/threads/{thread['id']}"):
            seen = (await get(http, path))["tool_resources"]["code_interpreter"]["file_ids"]
            assert file_id not in seen
        assert await server.database.read(kept_answers) == 1
        await server.background.sweep()
        assert await server.database.read(kept_answers) == 0


@pytest.mark.parametrize("kind", ["assistants", "threads"])
async def test_answers_that_name_an_imported_object_go_with_it(
    sqlite_place: Place, tmp_path: Path, kind: str
) -> None:
    ids = {"assistants": "asst_of-the_team", "threads": "thread_of-the_team"}
    thread_id = ids["threads"]
    saved = page(assistant(1) | {"id": ids["assistants"]}, message(1, thread_id=thread_id))
    archive = write_directory(tmp_path / "saved", {"a.json": saved})
    await sqlite_place.commands.run("import", str(archive))
    async with serving(sqlite_place) as (server, http):
        path = f"/{kind}/{ids[kind]}"
        assert not await replayed(http, path, {"metadata": {"about": MARK}})
        await server.background.sweep()
        assert await server.database.read(kept_answers) == 1
        succeeded(await http.delete(path))
        await server.background.sweep()
        assert await server.database.read(kept_answers) == 0
