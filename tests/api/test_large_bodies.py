"""Bodies that are too large are refused before they are read."""

import asyncio
import resource
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2
import pytest

from tests.api.forms import BOUNDARY, PURPOSE, TYPE, form
from tests.api.wire import Answer, answer, make_upload, refusal, send_file, succeeded
from tests.support.server import running_server
from threadloom.testing import ScriptedModel, ScriptedModels

LIMIT = 1024 * 1024
HUNDRED = 100 * LIMIT
PIECE = b"x" * 64 * 1024


def beyond(limit: int) -> Answer:
    return refusal(413, f"The request body is too large. The limit is {limit} bytes.")


TOO_LARGE = beyond(LIMIT)


@pytest.fixture
async def small(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server that takes JSON of 1 MB, files of 4 and parts of 2."""
    settings = {
        "server": {"port": 0, "max_body": LIMIT},
        "files": {"max_bytes": 4 * LIMIT, "max_part_bytes": 2 * LIMIT},
    }
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, settings=settings, with_worker=False) as running,
        running.http() as raw,
    ):
        yield raw


def large_form(content: bytes, field: str = "file") -> bytes:
    return form(PURPOSE, (f'form-data; name="{field}"; filename="a.txt"', content))


async def endless() -> AsyncIterator[bytes]:
    yield large_form(b"")[: -len(BOUNDARY) - 8]
    while True:
        yield PIECE


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // len(PIECE)):
        yield PIECE


def peak() -> int:
    """The most memory that this process, and so the server, ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_a_large_body_is_refused_unread(small: httpx2.AsyncClient) -> None:
    before = peak()
    headers = {"content-length": str(HUNDRED)}
    refused = await small.post("/assistants", content=pieces(HUNDRED), headers=headers)
    assert answer(refused) == TOO_LARGE
    assert peak() - before < 20 * LIMIT


async def test_a_large_body_of_unknown_length_is_refused_on_the_way(
    small: httpx2.AsyncClient,
) -> None:
    before = peak()
    assert answer(await small.post("/assistants", content=pieces(HUNDRED))) == TOO_LARGE
    assert peak() - before < 20 * LIMIT


async def test_the_connection_or_the_next_one_works_on(small: httpx2.AsyncClient) -> None:
    await small.post("/assistants", content=pieces(HUNDRED))
    assert (await small.get("/assistants")).status_code == 200


async def test_every_route_has_the_limit(small: httpx2.AsyncClient) -> None:
    body = b"x" * (LIMIT + 1)
    for path in ("/threads", "/threads/runs", "/threads/thread_1/messages", "/assistants/asst_1"):
        assert answer(await small.post(path, content=body)) == TOO_LARGE


async def test_a_body_of_just_the_limit_is_read(small: httpx2.AsyncClient) -> None:
    body = b'{"model": "m"}'
    made = await small.post("/assistants", content=body + b" " * (LIMIT - len(body)))
    assert made.status_code == 200


async def test_files_have_a_limit_of_their_own(small: httpx2.AsyncClient) -> None:
    assert succeeded(await send_file(small, b"x" * 4 * LIMIT))["bytes"] == 4 * LIMIT
    assert answer(await send_file(small, b"x" * (4 * LIMIT + 1))) == beyond(4 * LIMIT)
    assert answer(await send_file(small, b"x" * 8 * LIMIT)) == beyond(4 * LIMIT)


async def test_parts_of_uploads_have_a_limit_of_their_own(small: httpx2.AsyncClient) -> None:
    path = f"/uploads/{(await make_upload(small))['id']}/parts"
    for size, status in ((2 * LIMIT, 200), (2 * LIMIT + 1, 413), (4 * LIMIT, 413)):
        assert (await small.post(path, files={"data": b"x" * size})).status_code == status
    body = b"x" * (LIMIT + 1)
    for other in ("/uploads", f"{path}/more", "/files/file-1", "/uploads/upload_1/complete"):
        assert answer(await small.post(other, content=body)) == TOO_LARGE


async def test_nobody_reads_on_for_ever(small: httpx2.AsyncClient) -> None:
    """Whoever does not stop sending is answered, heard for a while, and then left."""
    before = peak()
    for path, headers, status in (
        ("/v1/files", TYPE, b"413"),
        ("/v1/files", {"content-type": "text/plain"}, b"400"),
        ("/v1/assistants", {}, b"413"),
        ("/v1/nowhere", {}, b"404"),
        ("/v1/files", {"authorization": "Bearer wrong"}, b"401"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", small.base_url.port)
        sending = asyncio.create_task(send_for_ever(writer, path, dict(small.headers) | headers))
        async with asyncio.timeout(30):
            answered = await reader.readuntil(b"\r\n\r\n")
            with pytest.raises(ConnectionError):
                await sending
        writer.close()
        assert answered.split()[1] == status
        assert b"connection: close" in answered
    assert peak() - before < 50 * LIMIT


async def send_for_ever(writer: asyncio.StreamWriter, path: str, headers: dict[str, str]) -> None:
    """Raises ConnectionError when nobody listens any more."""
    sent = headers | {"transfer-encoding": "chunked", "host": "localhost"}
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    async for piece in endless():
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()


async def test_a_small_body_that_nobody_read_leaves_the_connection_open(
    small: httpx2.AsyncClient,
) -> None:
    for path in ("/nowhere", "/uploads/upload_1/cancel", "/files"):
        refused = await small.post(path, content=b"x" * 1000)
        assert refused.status_code in (400, 404)
        assert "connection" not in refused.headers
