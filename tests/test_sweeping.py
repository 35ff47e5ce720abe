"""What is swept: files and uploads whose time has come, and bytes that no row refers to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from tests.api.forms import BOUNDARY, PURPOSE, form, opening
from tests.api.wire import (
    NOW,
    get,
    make_assistant,
    make_file,
    make_upload,
    post,
    send_file,
    succeeded,
)
from tests.support.server import Running, running_server
from threadloom.blobs import Blobs, open_blobs
from threadloom.config import Settings
from threadloom.db.rows import IdempotencyRow, StrayBlobRow, UploadRow
from threadloom.db.tx import Tx
from threadloom.errors import BlobMissing, InvalidRequest
from threadloom.files.strays import WRITTEN_WITHIN, keep, new_blob
from threadloom.files.sweeping import PUT_OFF, SKEW, sweep
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds

LATER = SKEW + 1
HOUR = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def still(database_url: str, clock: FrozenClock) -> AsyncGenerator[Running]:
    """A server where time stands still; nothing sweeps but the test."""
    async with running_server(
        database_url,
        ScriptedModels(ScriptedModel()),
        clock=clock,
        ids=SequentialIds(),
        with_worker=False,
    ) as running:
        yield running


@pytest.fixture
async def raw(still: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    async with still.http() as raw:
        yield raw


def stored(running: Running) -> list[bytes]:
    """The content of every file in the store, finished or not."""
    root = running.context.settings.data_dir / "files"
    return sorted(path.read_bytes() for path in root.rglob("*") if path.is_file())


async def swept(running: Running) -> list[bytes]:
    await sweep(running.database, running.context.blobs)
    return stored(running)


def strays(tx: Tx) -> dict[str, float]:
    rows = tx.session.scalars(select(StrayBlobRow))
    return {row.key: row.due_at for row in rows}


def upload_statuses(tx: Tx) -> list[str]:
    return list(tx.session.scalars(select(UploadRow.status).order_by(UploadRow.seq)))


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_the_bytes_of_a_deleted_file_go(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    gone = await make_file(raw, b"gone")
    await make_file(raw, b"kept")
    await raw.delete(f"/files/{gone['id']}")
    assert await swept(still) == [b"gone", b"kept"]
    clock.advance(LATER)
    assert await swept(still) == [b"kept"]
    assert await still.database.read(strays) == {}


async def test_expired_files_go_as_if_they_were_deleted(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    kept = await make_file(raw, b"kept")
    gone = await make_file(raw, b"gone", fields=HOUR)
    files = {"code_interpreter": {"file_ids": [gone["id"], kept["id"]]}}
    assistant = await make_assistant(raw, tool_resources=files)
    store = await post(raw, "/vector_stores", {"file_ids": [gone["id"], kept["id"]]})
    clock.advance(3600)
    await swept(still)
    clock.advance(LATER)
    assert await swept(still) == [b"kept"]
    left = await get(raw, f"/assistants/{assistant['id']}")
    assert left["tool_resources"] == {"code_interpreter": {"file_ids": [kept["id"]]}}
    in_store = await get(raw, f"/vector_stores/{store['id']}/files")
    assert [file["id"] for file in in_store["data"]] == [kept["id"]]
    older = await get(raw, "/files", after=gone["id"])
    assert [file["id"] for file in older["data"]] == [kept["id"]]


async def test_the_bytes_of_unused_parts_go(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    upload, cancelled = [await make_upload(raw, size=4) for _ in range(2)]
    path = f"/uploads/{upload['id']}"
    used, _ = [
        succeeded(await raw.post(f"{path}/parts", files={"data": content}))["id"]
        for content in (b"used", b"unused")
    ]
    await raw.post(f"/uploads/{cancelled['id']}/parts", files={"data": b"cancelled"})
    done = await post(raw, f"{path}/complete", {"part_ids": [used]})
    await post(raw, f"/uploads/{cancelled['id']}/cancel")
    clock.advance(LATER)
    assert await swept(still) == [b"used"]
    await raw.delete(f"/files/{done['file']['id']}")
    clock.advance(LATER)
    assert await swept(still) == []


async def test_expired_uploads_are_marked_and_their_parts_go(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    expired, completed = [await make_upload(raw, size=0) for _ in range(2)]
    await raw.post(f"/uploads/{expired['id']}/parts", files={"data": b"part"})
    await post(raw, f"/uploads/{completed['id']}/complete", {"part_ids": []})
    clock.advance(3600)
    await swept(still)
    assert await still.database.read(upload_statuses) == ["expired", "completed"]
    clock.advance(LATER)
    assert await swept(still) == []
    refused = await raw.post(f"/uploads/{expired['id']}/cancel")
    assert "is expired" in refused.json()["error"]["message"]


async def test_the_bytes_of_a_refused_form_go(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    assert (await send_file(raw, purpose="world_domination")).status_code == 400
    assert stored(still) == [b"Some text."]
    clock.advance(LATER)
    assert await swept(still) == []


@pytest.mark.parametrize("sent", [b"short", b"x" * 12_000_000], ids=["short", "long"])
async def test_a_client_that_leaves_leaves_nothing(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock, sent: bytes
) -> None:
    still.check.expected_statuses.add(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", still.port)
    body = form(PURPOSE)[: -len(BOUNDARY) - 6]
    body += opening('form-data; name="file"; filename="a.txt"') + sent
    head = (
        "POST /v1/files HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {still.key}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body) + 1000}",
    )
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    while not await still.database.read(strays):
        pass
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    while list((await still.database.read(strays)).values()) != [NOW]:
        pass
    assert (await get(raw, "/files"))["data"] == []
    assert stored(still) == []
    clock.advance(LATER)
    assert await swept(still) == []
    assert await still.database.read(strays) == {}


async def test_what_a_killed_process_wrote_goes_after_a_day(
    still: Running, clock: FrozenClock
) -> None:
    blobs = still.context.blobs
    abandoned = new_blob(still.database, blobs)
    key = await abandoned.__aenter__()
    await blobs.write(key, pieces(b"text"))
    root = still.context.settings.data_dir / "files"
    (root / f"{key}#1").write_bytes(b"te")
    clock.advance(WRITTEN_WITHIN)
    assert await swept(still) == [b"te", b"text"]
    clock.advance(SKEW)
    assert await swept(still) == []


async def test_bytes_that_took_longer_than_a_day_are_not_kept(
    still: Running, clock: FrozenClock
) -> None:
    async def keep_late() -> None:
        async with new_blob(still.database, still.context.blobs) as key:
            clock.advance(WRITTEN_WITHIN)
            await still.database.write(keep, key)

    with pytest.raises(InvalidRequest, match="took longer than a day"):
        await keep_late()


async def test_everything_that_is_due_goes_however_many_sweep(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    for number in range(120):
        await make_file(raw, str(number).encode(), fields=HOUR)
    clock.advance(3600)
    both = (still.database, still.context.blobs)
    await asyncio.gather(*(sweep(*both) for _ in range(3)))
    assert len(await still.database.read(strays)) == 120
    clock.advance(LATER)
    await asyncio.gather(*(sweep(*both) for _ in range(3)))
    assert stored(still) == []
    assert await still.database.read(strays) == {}


async def test_bytes_that_cannot_be_removed_keep_no_others(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    for number in range(4):
        gone = await make_file(raw, str(number).encode())
        await raw.delete(f"/files/{gone['id']}")
        clock.advance(1)
    root = still.context.settings.data_dir / "files"
    (stuck,) = [path for path in root.glob("*/*") if path.read_bytes() == b"1"]
    stuck.unlink()
    (stuck / "in the way").mkdir(parents=True)
    clock.advance(LATER)
    assert await swept(still) == []
    key = str(stuck.relative_to(root))
    assert await still.database.read(strays) == {key: clock.now() + PUT_OFF}
    (stuck / "in the way").rmdir()
    stuck.rmdir()
    clock.advance(PUT_OFF + LATER)
    await swept(still)
    assert await still.database.read(strays) == {}


async def test_a_store_that_does_not_answer_is_asked_again(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock, silent: Blobs
) -> None:
    gone = await make_file(raw)
    await raw.delete(f"/files/{gone['id']}")
    clock.advance(LATER)
    await sweep(still.database, silent)
    assert len(await still.database.read(strays)) == 1
    clock.advance(PUT_OFF + LATER)
    assert await swept(still) == []


@pytest.fixture
def silent(tmp_path: Path) -> Blobs:
    """A store that fails at every call: its directory is in the way of itself."""
    blobs = open_blobs(Settings.model_validate({"data_dir": tmp_path}, context=None))
    (tmp_path / "files").rmdir()
    (tmp_path / "files").write_text("a file")
    return blobs


async def test_a_file_whose_bytes_are_lost_is_an_error_of_the_server(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    still.check.expected_statuses.add(500)
    lost = await make_file(raw)
    (path,) = [
        one for one in (still.context.settings.data_dir / "files").rglob("*") if one.is_file()
    ]
    path.unlink()
    refused = await raw.get(f"/files/{lost['id']}/content")
    assert refused.status_code == 500
    assert refused.json()["error"] == {
        "message": BlobMissing().message,
        "type": "server_error",
        "param": None,
        "code": None,
    }


async def test_a_step_that_cannot_be_done_stops_neither_the_others_nor_the_server(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    folder = still.context.settings.data_dir
    (folder / "index").mkdir()
    (folder / "index" / "vs_gone.index" / "in the way").mkdir(parents=True)
    (folder / "tmp").write_text("in the way, too")
    gone = await make_file(raw, fields=HOUR)
    key = {"Idempotency-Key": "once"}
    succeeded(await raw.post("/threads", json={}, headers=key))
    clock.advance(30 * 86_400)
    with capture_logs() as logs:
        await still.background.sweep()
    failed = [one["step"] for one in logs if one["event"] == "sweeping failed"]
    assert failed == ["indexes", "copies of documents"]
    assert (await raw.get(f"/files/{gone['id']}")).status_code == 404
    assert await still.database.read(keys_kept) == 0


def keys_kept(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(IdempotencyRow)) or 0
