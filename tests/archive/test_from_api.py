"""`threadloom import --from-api`: from our own server, and from one that is asked as Azure's is."""

import asyncio
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from tests.api.wire import Json
from tests.archive.conftest import Place
from tests.archive.generator import BEGAN, assistant, id_of, thread
from tests.archive.saved import file, message, page
from tests.archive.test_round_trip import NEW, messages_in, objects, taken_in
from tests.faults.processes import until
from tests.keeping.world import fill
from tests.support.server import running_server
from tests.support.serving import answer, serving
from threadloom.archive import remote
from threadloom.testing import FakeSandbox, LineParser, ScriptedModel, ScriptedModels

VERSION = "2024-05-01-preview"
BYTES = b"Some text."


async def test_another_server_is_copied_whole(
    new_place: NEW, model: ScriptedModel, tmp_path: Path
) -> None:
    first, second, sandbox = new_place(), new_place(), FakeSandbox()
    models, parser = ScriptedModels(model), LineParser()
    key = tmp_path / "key"
    async with (
        running_server(
            first.url,
            models,
            settings={"data_dir": first.folder},
            sandbox=sandbox,
            parser=parser,
        ) as server,
        server.http() as http,
    ):
        await fill(server, http, model, sandbox, "zanzibar")
        before = await objects(http)
        await asyncio.to_thread(key.write_text, server.key + "\n")
        given = ("--from-api", server.base_url, "--api-key-file", str(key))
        report = await second.commands.json("import", *given)
        again = await second.commands.json("import", *given)
    assert report["imported"]["messages"] == messages_in(before)
    assert (again["imported"], again["present"]) == ({}, report["imported"])
    async with (
        running_server(
            second.url, models, settings={"data_dir": second.folder}, parser=parser
        ) as server,
        server.http() as http,
    ):
        await until(lambda: taken_in(http), "the files are taken in")
        assert await objects(http) == before


class Azure:
    """Answers as Azure does: its paths, its header, its version, and ids of files that begin otherwise."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.file: Json = file(1, BYTES, "notes.txt") | {"id": "assistant-0000000000000000000001"}
        store = {"id": id_of("vs_", 1), "object": "vector_store", "created_at": BEGAN}
        in_store = {
            "id": self.file["id"],
            "object": "vector_store.file",
            "created_at": BEGAN,
            "vector_store_id": store["id"],
        }
        said = [message(number, created_at=BEGAN + number) for number in range(3)]
        self.bodies = {
            "/files": page(self.file, file(2, b"", "unreadable.txt")),
            f"/files/{self.file['id']}/content": BYTES,
            "/vector_stores": page(store),
            f"/vector_stores/{store['id']}/files": page(in_store),
            "/assistants": page(assistant(1)),
            f"/threads/{id_of('thread_', 1)}": orjson.dumps(thread(1)),
            f"/threads/{id_of('thread_', 1)}/runs": page(),
            f"/threads/{id_of('thread_', 1)}/messages": orjson.dumps(
                {"data": said[:2], "has_more": True}
            ),
            f"/threads/{id_of('thread_', 1)}/messages?{said[1]['id']}": page(said[2]),
        }

    async def handle(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        query = parse_qs(url.query)
        path = url.path.removeprefix("/openai") + "".join(
            f"?{one}" for one in query.get("after", ())
        )
        self.asked[path] += 1
        right = url.path.startswith("/openai/") and query["api-version"] == [VERSION]
        if self.asked[path] == 1:
            writer.write(answer(b"{}", "retry-after: 0", status="429 Too Many Requests"))
        elif right and path in self.bodies:
            writer.write(answer(self.bodies[path], "content-type: application/json"))
        else:
            writer.write(answer(b"{}", status="404 Not Found"))
        await writer.drain()


async def test_azure_is_asked_in_its_own_way(
    sqlite_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADLOOM_IMPORT__API_KEY", "secret")
    azure, ids = Azure(), tmp_path / "threads.txt"
    lost = id_of("thread_", 2)
    await asyncio.to_thread(ids.write_text, f"{id_of('thread_', 1)}\n\n{lost}\nnot/an/id\n")
    async with serving(azure.handle) as url:
        given = ("--from-api", url, "--api-style", "azure", "--threads", str(ids))
        report = await sqlite_place.commands.json("import", *given)
    assert report["imported"] == {
        "files": 1,
        "vector stores": 1,
        "vector store files": 1,
        "assistants": 1,
        "threads": 1,
        "messages": 3,
    }
    assert {one["id"]: one["reason"] for one in report["reasons"]} == {
        "not/an/id": "it is no id of a thread",
        lost: f"the other server answers /threads/{lost} with 404",
        id_of("file-", 2): "its content cannot be had: the other server answers "
        f"/files/{id_of('file-', 2)}/content with 404",
    }
    assert "secret" not in str(report)


async def test_a_server_that_refuses_is_told_of(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}", status="401 Unauthorized"))

    refused = sqlite_place.commands.refused
    assert "key is missing" in await refused("import", "--from-api", "http://127.0.0.1:1")
    monkeypatch.setenv("THREADLOOM_IMPORT__API_KEY", "wrong")
    async with serving(refuse) as url:
        assert await refused("import", "--from-api", url) == (
            "Nothing was imported: the other server answers /files with 401."
        )
    assert "begin with http" in await refused("import", "--from-api", "ftp://127.0.0.1")
    assert "not both" in await refused("import")
    assert "There is no" in await refused("import", "nowhere")
    assert "no project" in await refused("export", "out", "--project", "nobody's")


class BreakingOff(Azure):
    """Breaks off each first answer in the middle, and some always."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()

    async def handle(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        query = parse_qs(url.query)
        path = url.path + "".join(f"?{one}" for one in query.get("after", ()))
        self.asked[path] += 1
        whole = answer(self.bodies.get(path, page()), "content-type: application/json")
        off = path in self.broken or (self.asked[path] == 1 and not path.endswith("/content"))
        writer.write(whole[:-5] if off else whole)
        await writer.drain()


async def copied(place: Place, server: BreakingOff, ids: Path, *threads: int) -> Json:
    """The report of an import from a server, with these threads."""
    await asyncio.to_thread(ids.write_text, "\n".join(id_of("thread_", one) for one in threads))
    async with serving(server.handle) as url:
        return await place.commands.json("import", "--from-api", url, "--threads", str(ids))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks off is asked for again at once."""
    monkeypatch.setenv("THREADLOOM_IMPORT__API_KEY", "secret")
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_breaks_off_is_asked_for_again_and_costs_at_most_its_thread(
    sqlite_place: Place, tmp_path: Path
) -> None:
    server = BreakingOff()
    for number in range(2, 5):
        server.bodies[f"/threads/{id_of('thread_', number)}"] = orjson.dumps(thread(number))
    off = f"/threads/{id_of('thread_', 2)}/messages"
    senseless = f"/threads/{id_of('thread_', 3)}/runs"
    server.broken.add(off)
    server.bodies[senseless] = b"<html>"
    report = await copied(sqlite_place, server, tmp_path / "ids", 1, 2, 3, 4)
    assert report["imported"]["threads"] == 2
    assert report["imported"]["messages"] == 3
    told = {one["id"]: one["reason"] for one in report["reasons"] if one["kind"] == "threads"}
    assert told == {
        id_of(
            "thread_", 2
        ): f"the other server breaks off its answer to {off}: RemoteProtocolError",
        id_of("thread_", 3): f"the other server answers {senseless} with something else than JSON",
    }


@pytest.mark.usefixtures("impatient")
async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    sqlite_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [message(number, created_at=BEGAN + number) for number in range(4)]
    monkeypatch.setattr(remote, "MAX_DOCUMENT", len(page(*said)) - 1)
    server = BreakingOff()
    path = f"/threads/{id_of('thread_', 1)}/messages"

    async def handle(target: str, writer: asyncio.StreamWriter) -> None:
        url, query = urlsplit(target), parse_qs(urlsplit(target).query)
        if url.path != path:
            await server.handle(target, writer)
            return
        first = 1 + int(query["after"][0][4:]) if "after" in query else 0
        some = said[first : first + int(query["limit"][0])]
        body = {"data": some, "has_more": some[-1] != said[-1]}
        writer.write(answer(orjson.dumps(body)))

    ids = tmp_path / "ids"
    await asyncio.to_thread(ids.write_text, id_of("thread_", 1))
    async with serving(handle) as url:
        given = ("import", "--from-api", url, "--threads", str(ids))
        report = await sqlite_place.commands.json(*given)
        assert report["imported"]["messages"] == len(said)
        said[2]["content"][0]["text"]["value"] = "x" * 10_000
        report = await sqlite_place.commands.json(*given, "--dry-run")
    reason = f"the other server's answer to {path} is too large"
    assert [(one["id"], one["reason"]) for one in report["reasons"]][-1] == (
        id_of("thread_", 1),
        reason,
    )


@pytest.mark.usefixtures("impatient")
async def test_of_a_server_that_goes_away_what_was_read_is_imported(
    sqlite_place: Place, tmp_path: Path
) -> None:
    server = BreakingOff()
    gone = id_of("thread_", 5)

    async def handle(target: str, writer: asyncio.StreamWriter) -> None:
        if gone in server.asked or urlsplit(target).path.endswith(gone):
            server.asked[gone] += 1
            writer.close()
        else:
            await server.handle(target, writer)

    ids = tmp_path / "ids"
    lost = [id_of("thread_", number) for number in range(5, 15)]
    await asyncio.to_thread(ids.write_text, "\n".join([id_of("thread_", 1), *lost]))
    async with serving(handle) as url:
        given = ("--from-api", url, "--threads", str(ids))
        report = await sqlite_place.commands.json("import", *given)
    assert report["imported"]["messages"] == 3
    told = {one["id"]: one["reason"] for one in report["reasons"] if one["kind"] == "threads"}
    assert {one for one in lost if told[one] == "the other server has stopped answering"} == {
        *lost[remote.GONE :]
    }
    assert all(
        told[one].startswith(f"the other server does not answer /threads/{one}: ")
        for one in lost[: remote.GONE]
    )
    assert server.asked[gone] == remote.GONE * remote.TRIES
