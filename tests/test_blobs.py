"""File bytes: the same conformance tests for a local directory, memory and S3."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import orjson
import pytest
from obstore.store import GCSStore, MemoryStore
from openai import AsyncOpenAI

from tests.support.s3 import BUCKET, KEYS, running_s3
from tests.support.server import Running
from threadloom.blobs import PART, Blobs, open_blobs
from threadloom.config import Settings
from threadloom.errors import BlobMissing, StartError, StorageUnavailable

STORES = ("directory", "memory", "s3")


class Interrupted(Exception):
    """The bytes stop coming."""


@pytest.fixture(scope="module")
def s3() -> Generator[str]:
    with running_s3() as address:
        yield address


def s3_settings(address: str, url: str = f"s3://{BUCKET}/some/where") -> Settings:
    storage = {"url": url, "s3": KEYS | {"endpoint": address}}
    return Settings.model_validate({"storage": storage}, context=None)


def file_settings(url: str | None, data_dir: Path) -> Settings:
    return Settings.model_validate({"storage": {"url": url}, "data_dir": data_dir}, context=None)


@pytest.fixture(params=STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    match request.param:
        case "directory":
            return open_blobs(file_settings(None, tmp_path))
        case "memory":
            return Blobs(MemoryStore())
        case _:
            return open_blobs(s3_settings(request.getfixturevalue("s3")))


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def broken(size: int) -> AsyncGenerator[bytes]:
    yield b"x" * size
    raise Interrupted


async def content(blobs: Blobs, *keys: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(keys)])


async def write(blobs: Blobs, *given: bytes) -> str:
    key = blobs.new_key()
    assert await blobs.write(key, pieces(*given)) == sum(map(len, given))
    return key


@pytest.mark.parametrize(
    "given",
    [(), (b"",), (b"one",), (b"a", b"", b"b"), (b"x" * PART,), (b"y" * 1_000_003,) * 12],
    ids=["nothing", "empty", "one", "several", "just a part", "parts"],
)
async def test_what_was_written_is_read(blobs: Blobs, given: tuple[bytes, ...]) -> None:
    assert await content(blobs, await write(blobs, *given)) == b"".join(given)


async def test_several_blobs_are_read_one_after_the_other(blobs: Blobs) -> None:
    keys = [await write(blobs, text) for text in (b"one ", b"", b"two ", b"three")]
    assert await content(blobs, *keys) == b"one two three"
    assert await content(blobs) == b""


async def test_blobs_become_a_local_file(blobs: Blobs, tmp_path: Path) -> None:
    keys = [await write(blobs, b"one " * 1_000_000), await write(blobs, b"two")]
    async with blobs.as_file(keys, tmp_path / "copy") as path:
        assert path.read_bytes() == b"one " * 1_000_000 + b"two"
    async with blobs.as_file(keys[1:], tmp_path / "copy") as path:
        assert path.read_bytes() == b"two"
    assert not (tmp_path / "copy").exists()
    assert await content(blobs, *keys[1:]) == b"two"


async def test_a_missing_blob_is_told_apart(blobs: Blobs, tmp_path: Path) -> None:
    there = await write(blobs, b"there")
    with pytest.raises(BlobMissing):
        await content(blobs, there, blobs.new_key())
    with pytest.raises(BlobMissing):
        async with blobs.as_file([blobs.new_key()], tmp_path / "copy"):
            pass


async def test_deleted_blobs_are_gone_and_others_stay(blobs: Blobs) -> None:
    kept, gone, also = [await write(blobs, b"text") for _ in range(3)]
    await blobs.delete([gone, blobs.new_key(), also])
    await blobs.delete([gone])
    await blobs.delete([])
    for key in (gone, also):
        with pytest.raises(BlobMissing):
            await content(blobs, key)
    assert await content(blobs, kept) == b"text"


async def test_a_store_that_minds_missing_blobs_deletes_the_others() -> None:
    with running_gcs("there") as (address, left):
        account = {"gcs_base_url": address, "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        store = GCSStore(
            BUCKET,
            config={"service_account_key": orjson.dumps(account).decode()},
            client_options={"allow_http": True},
        )
        await Blobs(store).delete(["missing", "there", "also-missing"])
        assert not left


@contextmanager
def running_gcs(*names: str) -> Generator[tuple[str, set[str]]]:
    """What of Google's storage deletes: its address, and the names of what is there."""
    left = set(names)

    class Bucket(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            name = self.path.rpartition("/")[2]
            found = name in left
            left.discard(name)
            self.send_response(204 if found else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", left
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("size", [10, 3 * PART + 1])
async def test_a_write_that_breaks_leaves_nothing(blobs: Blobs, size: int, s3: str) -> None:
    key = blobs.new_key()
    with pytest.raises(Interrupted):
        await blobs.write(key, broken(size))
    with pytest.raises(BlobMissing):
        await content(blobs, key)
    assert "<Upload>" not in httpx2.get(f"{s3}/{BUCKET}?uploads").text


@pytest.mark.parametrize("size", [10, 3 * PART + 1])
async def test_a_write_that_is_cancelled_leaves_nothing(blobs: Blobs, size: int, s3: str) -> None:
    written = asyncio.Event()

    async def hanging() -> AsyncGenerator[bytes]:
        yield b"x" * size
        written.set()
        await asyncio.Event().wait()

    key = blobs.new_key()
    writing = asyncio.create_task(blobs.write(key, hanging()))
    await written.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(BlobMissing):
        await content(blobs, key)
    assert "<Upload>" not in httpx2.get(f"{s3}/{BUCKET}?uploads").text


async def test_nothing_can_be_read_before_all_is_written(blobs: Blobs) -> None:
    key = blobs.new_key()

    async def looking() -> AsyncGenerator[bytes]:
        yield b"x" * 2 * PART
        with pytest.raises(BlobMissing):
            await content(blobs, key)
        yield b"y"

    await blobs.write(key, looking())
    assert len(await content(blobs, key)) == 2 * PART + 1


async def test_many_are_written_and_read_at_once(blobs: Blobs) -> None:
    texts = [f"text {number} ".encode() * 1000 for number in range(20)]
    keys = await asyncio.gather(*(write(blobs, text) for text in texts))
    assert await asyncio.gather(*(content(blobs, key) for key in keys)) == texts


def test_keys_are_unlike_each_other_and_name_nothing() -> None:
    blobs = Blobs(MemoryStore())
    keys = {blobs.new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(len(key) == 41 and key[2] == "/" for key in keys)


async def test_a_directory_forgets_what_a_killed_process_left(tmp_path: Path) -> None:
    blobs = open_blobs(file_settings(None, tmp_path))
    key = await write(blobs, b"text")
    unfinished = tmp_path / "files" / f"{key}#1"
    unfinished.write_bytes(b"te")
    await blobs.delete([key])
    assert not unfinished.exists()


async def test_an_upload_is_on_the_disk_before_it_is_acknowledged(
    client: AsyncOpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", recorded)
    await client.files.create(file=("a.txt", b"x" * 2 * PART), purpose="assistants")
    root = server.context.settings.data_dir / "files"
    (blob,) = (path for path in root.rglob("*") if path.is_file())
    # A name is there after a power cut only if its directory was synced, and that directory's name likewise.
    assert (blob.stat().st_ino, 2 * PART) in synced
    assert {blob.parent.stat().st_ino, root.stat().st_ino} <= {inode for inode, _ in synced}


@pytest.mark.parametrize(("number", "taken"), [(errno.EINVAL, True), (errno.EIO, False)])
async def test_a_disk_that_cannot_sync_is_told_from_one_that_fails_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, taken: bool
) -> None:
    blobs = open_blobs(file_settings(None, tmp_path))

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with nullcontext() if taken else pytest.raises(StorageUnavailable):
        await write(blobs, b"text")


async def test_another_directory_is_chosen_by_url(tmp_path: Path) -> None:
    directory = tmp_path / "else where"
    blobs = open_blobs(file_settings(directory.as_uri(), tmp_path))
    key = await write(blobs, b"text")
    assert (directory / key).read_bytes() == b"text"


async def test_a_bucket_holds_keys_below_its_prefix(s3: str) -> None:
    key = await write(open_blobs(s3_settings(s3)), b"text")
    assert f"<Key>some/where/{key}</Key>" in httpx2.get(f"{s3}/{BUCKET}").text


def test_a_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StartError, match="Cannot open the file storage: "):
        open_blobs(file_settings(None, tmp_path))
    with pytest.raises(StartError, match="Cannot open the file storage: "):
        open_blobs(file_settings("s3://", tmp_path))


async def test_a_store_that_does_not_answer_is_told_apart(unused_tcp_port: int) -> None:
    blobs = open_blobs(s3_settings(f"http://127.0.0.1:{unused_tcp_port}"))
    with pytest.raises(StorageUnavailable) as caught:
        await write(blobs, b"text")
    assert str(unused_tcp_port) not in caught.value.message
    with pytest.raises(StorageUnavailable):
        await content(blobs, blobs.new_key())
    with pytest.raises(StorageUnavailable):
        await blobs.delete([blobs.new_key()])


async def test_a_bucket_that_is_not_there_is_no_answer(s3: str) -> None:
    blobs = open_blobs(s3_settings(s3, url="s3://nowhere"))
    with pytest.raises(StorageUnavailable):
        await write(blobs, b"text")
