"""Files in a real server and in S3: what large ones cost, and what happens when the store is gone."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path

import httpx2
import pytest

from tests.api.forms import BOUNDARY, PURPOSE, TYPE, form, opening
from tests.api.wire import answer, make_file, make_upload, post, refusal, send_file, succeeded
from tests.support.process import KEY, serving
from tests.support.s3 import BUCKET, KEYS, running_s3
from tests.support.server import Running, running_server
from threadloom.errors import StorageUnavailable
from threadloom.files.sweeping import SKEW, sweep
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels

MB = 1024 * 1024
PIECE = bytes(range(256)) * 1024
HEAD = form(PURPOSE)[: -len(BOUNDARY) - 6] + opening('form-data; name="file"; filename="large.bin"')


@pytest.fixture(scope="module")
def s3() -> Generator[str]:
    with running_s3() as address:
        yield address


@pytest.fixture
async def in_s3(database_url: str, s3: str) -> AsyncGenerator[Running]:
    storage = {"url": f"s3://{BUCKET}/some/where", "s3": KEYS | {"endpoint": s3}}
    async with running_server(
        database_url,
        ScriptedModels(ScriptedModel()),
        settings={"storage": storage},
        clock=FrozenClock(),
        with_worker=False,
    ) as running:
        yield running


async def large(size: int) -> AsyncIterator[bytes]:
    """A form with a file of this size."""
    yield HEAD
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


async def send_large(http: httpx2.AsyncClient, size: int) -> str:
    made = succeeded(await http.post("/files", content=large(size), headers=TYPE))
    assert made["bytes"] == size
    return made["id"]


async def download_large(http: httpx2.AsyncClient, file_id: str) -> tuple[int, str]:
    """Its size and checksum."""
    size = 0
    digest = hashlib.sha256()
    async with http.stream("GET", f"/files/{file_id}/content") as response:
        async for piece in response.aiter_bytes():
            size += len(piece)
            digest.update(piece)
    return size, digest.hexdigest()


def objects(s3: str) -> int:
    return httpx2.get(f"{s3}/{BUCKET}").text.count("<Key>")


async def test_files_and_uploads_live_in_s3(in_s3: Running, s3: str) -> None:
    async with in_s3.http() as raw:
        file_id = await send_large(raw, 12 * MB)
        assert (await download_large(raw, file_id))[0] == 12 * MB
        upload = f"/uploads/{(await make_upload(raw))['id']}"
        parts = [
            succeeded(await raw.post(f"{upload}/parts", files={"data": content}))["id"]
            for content in (b"text.", b"unused", b"Some ")
        ]
        md5 = hashlib.md5(b"Some text.", usedforsecurity=False).hexdigest()
        chosen = {"part_ids": [parts[2], parts[0]], "md5": md5}
        done = await post(raw, f"{upload}/complete", chosen)
        content = await raw.get(f"/files/{done['file']['id']}/content")
        assert content.content == b"Some text."
        assert objects(s3) == 4
        for gone in (file_id, done["file"]["id"]):
            await raw.delete(f"/files/{gone}")
    assert isinstance(in_s3.database.clock, FrozenClock)
    in_s3.database.clock.advance(SKEW + 1)
    await sweep(in_s3.database, in_s3.context.blobs)
    assert objects(s3) == 0


async def test_a_store_that_does_not_answer_is_told_to_clients(
    database_url: str, unused_tcp_port: int
) -> None:
    endpoint = {"endpoint": f"http://127.0.0.1:{unused_tcp_port}"}
    storage = {"url": f"s3://{BUCKET}", "s3": KEYS | endpoint}
    async with (
        running_server(
            database_url,
            ScriptedModels(ScriptedModel()),
            settings={"storage": storage},
            with_worker=False,
        ) as running,
        running.http() as raw,
    ):
        running.check.expected_statuses.add(503)
        status, body = answer(await send_file(raw))
        assert (status, body["error"]["message"]) == (503, StorageUnavailable().message)
        assert body["error"]["type"] == "server_error"
        assert answer(await raw.get("/files/file-1")) == refusal(
            404, "No such File object: file-1", param="id"
        )


def child(directory: Path) -> int:
    """The process that this one has started in the directory."""
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.getpid() == int((one / "stat").read_text().rpartition(")")[2].split()[1])
                and (one / "cwd").readlink() == directory
            ):
                return int(one.name)
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError("There is no such process.")


def peak(process: int) -> int:
    """The most memory that it ever had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_large_files_do_not_pass_through_memory(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        server = child(tmp_path)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=60) as raw:
            await make_file(raw)
            before = peak(server)
            file_id = await send_large(raw, 200 * MB)
            assert peak(server) - before < 40 * MB
            size, checksum = await download_large(raw, file_id)
            assert (size, checksum) == (200 * MB, sha256_of_pieces(200 * MB))
            assert peak(server) - before < 40 * MB
            files = await asyncio.gather(*(send_large(raw, 8 * MB) for _ in range(8)))
            sizes = await asyncio.gather(*(download_large(raw, file) for file in files))
            assert sizes == [(8 * MB, sha256_of_pieces(8 * MB))] * 8
            assert peak(server) - before < 100 * MB


def sha256_of_pieces(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()
