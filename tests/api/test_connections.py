"""Connections of clients that do not behave: silent ones, endless ones, and those that ask but do not listen."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import orjson
import pytest

from tests.api.wire import get, make_assistant, make_thread
from tests.faults.processes import until
from tests.support.server import Running, running_server
from threadloom.api import bodies, connections
from threadloom.testing import ScriptedModel, ScriptedModels

SOON = 0.3
"""Seconds that stand for half a minute."""
WRONG = b"GET /v1/assistants HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-none\r\n\r\n"


@pytest.fixture
async def server(sqlite_url: str) -> AsyncGenerator[Running]:
    models = ScriptedModels(ScriptedModel())
    async with running_server(sqlite_url, models, with_worker=False) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN", SOON)
    monkeypatch.setattr(connections, "UNREAD_FOR", SOON)
    monkeypatch.setattr(bodies, "PIECE_WITHIN", SOON)


@asynccontextmanager
async def connected(
    server: Running,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, body


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent", [b"", b"GET /v1/assist", b"\r\n"], ids=["nothing", "half a head", "an empty line"]
)
async def test_who_says_nothing_for_long_is_cut_off(server: Running, sent: bytes) -> None:
    async with connected(server) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 20) == b""


@pytest.mark.usefixtures("impatient")
async def test_half_a_second_request_is_cut_off_too(server: Running) -> None:
    async with connected(server) as (reader, writer):
        writer.write(WRONG)
        assert (await answered(reader))[0] == 401
        writer.write(b"GET /v1/")
        assert await asyncio.wait_for(reader.read(), 20) == b""


@pytest.mark.usefixtures("impatient")
async def test_who_stops_in_the_middle_of_a_body_is_answered_and_makes_room(
    server: Running,
) -> None:
    server.check.expected_statuses = {408}
    head = f"POST /v1/threads HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
    async with connected(server) as (reader, writer):
        writer.write(f"{head}content-length: 100\r\n\r\n{{".encode())
        status, _, body = await asyncio.wait_for(answered(reader), 20)
        assert status == 408
        assert orjson.loads(body)["error"]["type"] == "invalid_request_error"
        await until(lambda: server.context.gate.active == 0, "it makes room")


@pytest.mark.usefixtures("impatient")
async def test_a_request_that_takes_long_is_not_cut_off(server: Running) -> None:
    """All limits are on what a client leaves undone."""
    head = f"POST /v1/threads HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
    async with connected(server) as (reader, writer):
        writer.write(f"{head}content-length: 8\r\n\r\n".encode())
        for piece in (b'{"a', b'":', b"1 ", b"}"):
            await asyncio.sleep(SOON * 0.6)
            writer.write(piece)
        assert (await asyncio.wait_for(answered(reader), 20))[0] == 400


async def send_for_ever(port: int, start: bytes, piece: bytes, *, reads: bool = True) -> None:
    """Until the server cuts the connection. Raises ConnectionError."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(60):
            await loop.sock_sendall(client, start)
            while True:
                await loop.sock_sendall(client, piece)
                with suppress(BlockingIOError):
                    while reads and client.recv(65536):
                        pass
    finally:
        client.close()


@pytest.mark.parametrize(
    "endless", [b"a" * 10_000, b"x: y\r\n" * 1_000], ids=["a long line", "many lines"]
)
async def test_a_head_has_an_end(server: Running, endless: bytes) -> None:
    start = b"GET /v1/assistants HTTP/1.1\r\nx: y\r\n"
    with pytest.raises(ConnectionError):
        await send_for_ever(server.port, start, endless)


async def test_what_belongs_to_no_body_has_an_end(server: Running) -> None:
    """Such as an extension of a chunk."""
    start = (
        f"POST /v1/threads HTTP/1.1\r\nauthorization: Bearer {server.key}\r\n"
        "transfer-encoding: chunked\r\n\r\n5;"
    )
    with pytest.raises(ConnectionError):
        await send_for_ever(server.port, start.encode(), b"a" * 10_000)
    await until(lambda: server.context.gate.active == 0, "it makes room")


async def test_a_head_that_is_too_large_is_refused_in_words(server: Running) -> None:
    async with connected(server) as (reader, writer):
        writer.write(b"GET /v1/assistants HTTP/1.1\r\nx: " + b"a" * 70_000)
        status, headers, body = await asyncio.wait_for(answered(reader), 20)
        assert (status, headers["connection"]) == (431, "close")
        assert orjson.loads(body)["error"]["message"] == "The head of your request is too large."


async def long_answers(server: Running) -> bytes:
    """Requests that are answered with twenty megabytes: more than is kept between two ends."""
    async with server.http() as raw:
        assistant = await make_assistant(raw, instructions="x" * 200_000)
    return (
        f"GET /v1/assistants/{assistant['id']} HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {server.key}\r\nopenai-beta: assistants=v2\r\n\r\n"
    ).encode() * 100


async def test_who_does_not_read_keeps_no_place(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asyncio.Event()
    pause_writing = connections.Protocol.pause_writing

    def tell(protocol: connections.Protocol) -> None:
        pause_writing(protocol)
        stuck.set()

    monkeypatch.setattr(connections.Protocol, "pause_writing", tell)
    requests = await long_answers(server)
    deaf = asyncio.create_task(send_for_ever(server.port, b"", requests, reads=False))
    async with server.http() as raw:
        await until(stuck.is_set, "nothing more can be written")
        server.context.gate.refusal()
        await until(lambda: server.context.gate.active == 0, "it makes room")
        assert (await get(raw, "/assistants"))["object"] == "list"
    assert not deaf.done()
    deaf.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deaf


@pytest.mark.usefixtures("impatient")
async def test_who_does_not_read_is_cut_off(server: Running) -> None:
    requests = await long_answers(server)
    with pytest.raises(ConnectionError):
        await send_for_ever(server.port, b"", requests, reads=False)


@pytest.mark.usefixtures("impatient")
async def test_who_floods_and_does_not_read_is_cut_off(server: Running) -> None:
    server.context.gate.active += 10_000
    with pytest.raises(ConnectionError):
        await send_for_ever(server.port, WRONG, WRONG * 100, reads=False)
    server.context.gate.active -= 10_000


async def test_a_refused_head_request_has_no_body(server: Running) -> None:
    server.context.gate.active += 10_000
    async with connected(server) as (reader, writer):
        writer.write(b"HEAD /v1/assistants HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
    server.context.gate.active -= 10_000


async def test_pages_may_read_refusals(server: Running) -> None:
    server.check.expected_statuses = {503}
    page = {"origin": "https://example.com"}
    async with server.http() as raw:
        await make_thread(raw)
        server.context.gate.active += 10_000
        refused = await raw.get("/assistants", headers=page)
        assert refused.status_code == 503
        assert refused.headers["access-control-allow-origin"] == "*"
        assert refused.headers["access-control-expose-headers"] == "*"
        plain = await raw.get("/assistants")
        assert "access-control-allow-origin" not in plain.headers
        question = page | {"access-control-request-method": "GET"}
        assert (await raw.options("/assistants", headers=question)).status_code == 204
        server.context.gate.active -= 10_000


@pytest.mark.usefixtures("impatient")
async def test_a_refused_request_whose_body_comes_later_leaves_no_connection(
    server: Running,
) -> None:
    server.context.gate.active += 10_000
    async with connected(server) as (reader, writer):
        writer.write(b"POST /v1/threads HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
        assert (await answered(reader))[0] == 503
        writer.write(b"{}")
        assert await asyncio.wait_for(reader.read(), 20) == b""
    server.context.gate.active -= 10_000
