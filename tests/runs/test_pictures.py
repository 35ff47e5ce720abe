"""What a provider is sent of pictures: the scripted upstream sees it as it arrives."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.api.wire import get, make_file, make_upload, post
from tests.runs.driver import FUNCTION, Api, Json, Talk
from tests.support.server import Running, running_server
from tests.support.serving import answer, serving
from threadloom.config import Settings
from threadloom.db.rows import FileRow
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models
from threadloom.testing import FrozenClock
from threadloom.testing.upstream import Upstream

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
JPEG = b"\xff\xd8\xff\xe0" + b"picture"
GIF = b"GIF89a" + b"picture"
WEBP = b"RIFF\x10\x00\x00\x00WEBP" + b"picture"
NOT_THERE = "is not shown: it is not there.]"
NOT_FETCHED = "is not shown: it could not be fetched.]"
TOO_MUCH = "is not shown: the pictures are too many or too large.]"
LOOPBACK: Json = {"allow": ["127.0.0.0/8"]}
Url = str


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    async with Upstream(tokens=2) as running:
        yield running


class Setup:
    """A server before a scripted provider."""

    def __init__(self, url: str, upstream: Upstream, clock: FrozenClock) -> None:
        self._url = url
        self.upstream = upstream
        self.clock = clock

    @asynccontextmanager
    async def serving(
        self, outbound: Mapping[str, Any] | None = None, **models: Any
    ) -> AsyncGenerator[tuple[Running, httpx2.AsyncClient]]:
        settings = {
            "upstream": {"base_url": self.upstream.base_url},
            "models": models,
            "outbound": outbound or {},
        }
        read = Settings.model_validate(settings)
        async with (
            build_models(read, RandomIds()) as router,
            running_server(self._url, router, settings=settings, clock=self.clock) as server,
            server.http() as http,
        ):
            yield server, http

    @property
    def parts(self) -> list[Json]:
        """The content of the newest message that the provider was sent."""
        content = self.upstream.requests[-1]["messages"][-1]["content"]
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def texts(self) -> list[str]:
        return [part["text"] for part in self.parts]


@pytest.fixture
def setup(database_url: str, upstream: Upstream, clock: FrozenClock) -> Setup:
    return Setup(database_url, upstream, clock)


def stored(file_id: str, **fields: str) -> Json:
    return {"type": "image_file", "image_file": {"file_id": file_id, **fields}}


def linked(url: Url, **fields: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def sent(kind: str, data: bytes, detail: str = "auto") -> Json:
    """A picture as the provider gets it."""
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


async def show(http: httpx2.AsyncClient, *parts: Json, **options: Any) -> Json:
    """A run on a thread with one message of these parts, which must come to its end."""
    api = Api(http)
    assistant = await post(http, "/assistants", {"model": "scripted"})
    thread = await post(http, "/threads", {"messages": [{"role": "user", "content": [*parts]}]})
    return await Talk(api, thread["id"], assistant["id"]).ask(**options)


async def test_a_file_reaches_the_model_as_its_bytes(setup: Setup) -> None:
    async with setup.serving() as (_, http):
        files = [
            (await make_file(http, data, "claims.txt", purpose=purpose))["id"]
            for data, purpose in ((PNG, "vision"), (JPEG, "assistants"), (GIF, "user_data"))
        ]
        parts = [stored(files[0], detail="low"), stored(files[1], detail="high"), stored(files[2])]
        run = await show(http, {"type": "text", "text": "See"}, *parts)
    assert run["status"] == "completed"
    assert setup.parts == [
        {"type": "text", "text": "See"},
        sent("image/png", PNG, "low"),
        sent("image/jpeg", JPEG, "high"),
        sent("image/gif", GIF),
    ]


async def test_a_file_of_several_parts_is_put_together(setup: Setup) -> None:
    async with setup.serving() as (_, http):
        upload = await make_upload(http, len(WEBP), purpose="vision")
        ids: list[str] = []
        for piece in (WEBP[:9], WEBP[9:]):
            part = await http.post(f"/uploads/{upload['id']}/parts", files={"data": ("x", piece)})
            ids.append(part.json()["id"])
        done = await post(http, f"/uploads/{upload['id']}/complete", {"part_ids": ids})
        await show(http, stored(done["file"]["id"]))
    assert setup.parts == [sent("image/webp", WEBP)]


async def test_what_is_not_there_is_told_to_the_model(setup: Setup) -> None:
    async with setup.serving() as (server, http):
        gone, lost, expired = [
            (await make_file(http, PNG, fields=fields))["id"]
            for fields in (
                {},
                {},
                {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
            )
        ]
        await http.delete(f"/files/{gone}")
        await server.context.blobs.delete(await server.database.read(blobs, lost))
        setup.clock.advance(3601)
        async with server.http(await server.new_key("other")) as other:
            foreign = (await make_file(other, PNG))["id"]
        names = ["file-000", "nonsense", gone, lost, expired, foreign]
        run = await show(http, *map(stored, names))
    assert run["status"] == "completed"
    assert setup.texts == ["\n".join(f"[The picture {name} {NOT_THERE}" for name in names)]


async def test_what_is_no_picture_is_told_to_the_model(setup: Setup) -> None:
    async with setup.serving() as (_, http):
        names = [
            (await make_file(http, data, "picture.png"))["id"]
            for data in (b"Some text.", b"<svg></svg>", b"RIFF\0\0\0\0WAVE", b"")
        ]
        await show(http, *map(stored, names))
    assert setup.texts == [
        "\n".join(
            f"[The picture {name} is not shown: it is no PNG, JPEG, GIF or WebP picture.]"
            for name in names
        )
    ]


async def test_the_newest_pictures_are_shown_if_they_are_too_many(setup: Setup) -> None:
    async with setup.serving(max_pictures=2) as (_, http):
        file = (await make_file(http, PNG))["id"]
        api = Api(http)
        talk = await api.talk("Hi")
        older: Json = {
            "role": "user",
            "content": [stored(file, detail="low"), linked("http://a/b")],
        }
        newest: Json = {"role": "user", "content": [stored(file, detail="high")]}
        await talk.ask(additional_messages=[older, newest])
    messages = setup.upstream.requests[-1]["messages"]
    assert messages[-1]["content"] == [sent("image/png", PNG, "high")]
    shown, link = messages[-2]["content"]
    assert shown == sent("image/png", PNG, "low")
    assert link["text"] == f"[The picture http://a/b {TOO_MUCH}"


async def test_large_pictures_are_not_shown(setup: Setup) -> None:
    async with setup.serving(max_picture_bytes=2 * len(PNG)) as (_, http):
        small = (await make_file(http, PNG))["id"]
        large = (await make_file(http, PNG + bytes(len(PNG) + 1)))["id"]
        pasted = sent("image/png", bytes(3 * len(PNG)))
        await show(http, stored(large), stored(small), pasted, stored(small), stored(small))
    large_note, first, pasted_note, second, third = setup.parts
    assert first == second == sent("image/png", PNG)
    assert large_note["text"] == f"[The picture {large} {TOO_MUCH}"
    assert pasted_note["text"] == f"[The picture data:image/png;base64 {TOO_MUCH}"
    assert third["text"] == f"[The picture {small} {TOO_MUCH}"


async def test_addresses_are_passed_on_and_not_asked(setup: Setup) -> None:
    """That is what the hosted service did: the provider fetches."""
    pasted = sent("image/png", PNG)
    link = linked("https://pictures.test/cat.png", detail="high")
    async with setup.serving() as (_, http):
        await show(http, link, pasted)
    assert setup.parts == [link, pasted]


async def test_a_provider_is_not_sent_into_its_own_network(setup: Setup) -> None:
    urls = (
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/a.png",
        "file:///etc/passwd",
        "gopher://a/",
        "http://user:secret@pictures.test/",
        "nonsense",
    )
    async with setup.serving() as (_, http):
        run = await show(http, *map(linked, urls))
    assert run["status"] == "completed"
    assert setup.texts == ["\n".join(f"[The picture {url} {NOT_FETCHED}" for url in urls)]


async def test_models_that_see_nothing_are_told_so(setup: Setup) -> None:
    async with setup.serving(pictures="never") as (_, http):
        file = (await make_file(http, PNG))["id"]
        await show(http, stored(file), linked("https://pictures.test/cat.png"))
    names = (file, "https://pictures.test/cat.png")
    notes = [
        f"[The picture {name} is not shown: this model is shown no pictures.]" for name in names
    ]
    assert setup.texts == ["\n".join(notes)]


class Gallery:
    """Pictures behind addresses, and how often each was asked for."""

    def __init__(self) -> None:
        self.asked = Counter[str]()

    async def __call__(self, path: str, writer: asyncio.StreamWriter) -> None:
        self.asked[path] += 1
        match path:
            case "/cat.png":
                writer.write(answer(PNG, "content-type: text/plain"))
            case "/moved":
                writer.write(answer(b"", "location: /cat.png", status="302 Found"))
            case "/inside":
                location = "location: http://10.0.0.1/cat.png"
                writer.write(answer(b"", location, status="302 Found"))
            case "/round":
                writer.write(answer(b"", "location: /round", status="302 Found"))
            case "/page":
                writer.write(answer(b"<html>", "content-type: image/png"))
            case "/large":
                writer.write(answer(PNG + bytes(5000)))
            case "/slow":
                writer.write(answer(PNG)[:-1])
                await writer.drain()
                await asyncio.Event().wait()
            case _:
                writer.write(answer(PNG, status="404 Not Found"))
        await writer.drain()


@pytest.fixture
def gallery() -> Gallery:
    return Gallery()


async def test_pictures_are_fetched_where_the_provider_cannot(
    setup: Setup, gallery: Gallery
) -> None:
    async with (
        serving(gallery) as url,
        setup.serving(LOOPBACK, pictures="inline") as (_, http),
    ):
        pasted = sent("image/png", PNG)
        again = linked(f"{url}/cat.png", detail="low")
        run = await show(http, linked(f"{url}/cat.png"), linked(f"{url}/moved"), again, pasted)
    assert run["status"] == "completed"
    whole = sent("image/png", PNG)
    assert setup.parts == [whole, whole, sent("image/png", PNG, "low"), pasted]
    assert gallery.asked == {"/cat.png": 2, "/moved": 1}


async def test_what_cannot_be_fetched_is_told_to_the_model(setup: Setup, gallery: Gallery) -> None:
    settings = LOOPBACK | {"timeout": "500ms", "max_bytes": 4000}
    async with (
        serving(gallery) as url,
        setup.serving(settings, pictures="inline") as (_, http),
    ):
        paths = ("/gone", "/slow", "/inside", "/round", "/page", "/large")
        addresses = [*(url + path for path in paths), "http://10.0.0.1/", "http://no.invalid/", "x"]
        run = await show(http, *map(linked, addresses))
    assert run["status"] == "completed"
    reasons = [note.partition(" is not shown: ")[2] for note in setup.texts[0].split("\n")]
    fetched = "it could not be fetched.]"
    assert reasons == [
        *(fetched,) * 4,
        "it is no PNG, JPEG, GIF or WebP picture.]",
        "the pictures are too many or too large.]",
        *(fetched,) * 3,
    ]


async def test_nothing_private_is_fetched(setup: Setup, gallery: Gallery) -> None:
    async with serving(gallery) as url, setup.serving(pictures="inline") as (_, http):
        local = url.replace("127.0.0.1", "localhost")
        run = await show(http, linked(f"{url}/cat.png"), linked(f"{local}/cat.png"))
    assert run["status"] == "completed"
    assert setup.texts[0].count(NOT_FETCHED) == 2
    assert not gallery.asked


async def test_turns_of_a_run_see_what_was_fetched_once(setup: Setup, gallery: Gallery) -> None:
    async with serving(gallery) as url, setup.serving(LOOPBACK, pictures="inline") as (_, http):
        text: Json = {"type": "text", "text": "[[tool:unknown {}]]"}
        run = await show(http, text, linked(f"{url}/cat.png"), tools=[FUNCTION])
        thread = await get(http, f"/threads/{run['thread_id']}/messages")
    assert (run["status"], len(thread["data"])) == ("completed", 2)
    first, second = setup.upstream.requests
    assert first["messages"][0] == second["messages"][0]
    assert first["messages"][0]["content"][1] == sent("image/png", PNG)
    assert gallery.asked == {"/cat.png": 1}


async def test_pictures_count_for_the_budget(setup: Setup) -> None:
    async with setup.serving() as (_, http):
        file = (await make_file(http, PNG))["id"]
        low = await show(http, stored(file, detail="low"), max_prompt_tokens=256)
        auto = await show(http, stored(file), max_prompt_tokens=256)
    assert low["status"] == "completed"
    assert auto["status"] == "incomplete"
    assert auto["incomplete_details"] == {"reason": "max_prompt_tokens"}


async def test_the_embedded_model_says_that_it_sees_no_files(database_url: str) -> None:
    async with (
        build_models(Settings(), RandomIds()) as models,
        running_server(database_url, models) as server,
        server.http() as http,
    ):
        file = (await make_file(http, PNG))["id"]
        run = await show(http, stored(file), linked("https://pictures.test/cat.png"))
        messages = await get(http, f"/threads/{run['thread_id']}/messages")
    assert "2 images, which I cannot see" in messages["data"][0]["content"][0]["text"]["value"]


def blobs(tx: Tx, file_id: str) -> list[str]:
    return tx.session.query(FileRow).filter_by(id=file_id).one().blobs
