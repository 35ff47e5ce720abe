"""Uploads: announced, sent in parts, completed, cancelled, expired."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError

from tests.api.forms import TYPE, chunks, field, form
from tests.api.wire import (
    NOW,
    Answer,
    Json,
    answer,
    get,
    make_upload,
    nth,
    post,
    refusal,
    succeeded,
)
from tests.support.server import Running, running_server
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds

UPLOAD = nth("upload")
FILE = f"file-{1:024d}"
TOO_LARGE = refusal(413, "The request body is too large. The limit is 100 bytes.")
PENDING: Json = {
    "id": UPLOAD,
    "object": "upload",
    "bytes": 10,
    "created_at": NOW,
    "filename": "notes.txt",
    "purpose": "assistants",
    "status": "pending",
    "expires_at": NOW + 3600,
}


def not_pending(status: str) -> Answer:
    return refusal(400, f"The upload '{UPLOAD}' is {status}: only a pending upload can be changed.")


@pytest.fixture
async def small(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server that takes uploads of 1000 bytes in parts of 100."""
    files = {"max_part_bytes": 100, "max_upload_bytes": 1000}
    async with (
        running_server(
            database_url,
            ScriptedModels(ScriptedModel()),
            settings={"files": files},
            ids=SequentialIds(),
            with_worker=False,
        ) as running,
        running.http() as raw,
    ):
        yield raw


async def send_part(
    http: httpx2.AsyncClient, content: bytes, upload_id: str = UPLOAD
) -> httpx2.Response:
    return await http.post(f"/uploads/{upload_id}/parts", files={"data": content})


async def make_parts(http: httpx2.AsyncClient, *contents: bytes) -> list[str]:
    return [succeeded(await send_part(http, content))["id"] for content in contents]


async def complete(
    http: httpx2.AsyncClient, part_ids: list[str], **fields: object
) -> httpx2.Response:
    return await http.post(f"/uploads/{UPLOAD}/complete", json={"part_ids": part_ids} | fields)


async def content(http: httpx2.AsyncClient, file_id: str = FILE) -> bytes:
    return (await http.get(f"/files/{file_id}/content")).content


async def statuses(http: httpx2.AsyncClient, *requests: str) -> list[int]:
    return [(await http.get(path)).status_code for path in requests]


async def all_refused(http: httpx2.AsyncClient, expected: Answer) -> None:
    """Nothing can be done with the upload any more."""
    assert answer(await send_part(http, b"late")) == expected
    assert answer(await complete(http, [])) == expected
    assert answer(await complete(http, [], md5="0" * 32)) == expected
    assert answer(await http.post(f"/uploads/{UPLOAD}/cancel")) == expected


async def test_an_upload_is_announced(raw: httpx2.AsyncClient) -> None:
    assert await make_upload(raw) == PENDING


async def test_an_upload_becomes_a_file(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    part = succeeded(await send_part(raw, b"Some"))
    assert part == {
        "id": nth("part"),
        "object": "upload.part",
        "created_at": NOW,
        "upload_id": UPLOAD,
    }
    rest = await make_parts(raw, b" text.")
    assert await get(raw, "/files") == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    done = succeeded(await complete(raw, [part["id"], *rest]))
    file = await get(raw, f"/files/{FILE}")
    assert done == PENDING | {"status": "completed", "file": file}
    assert (file["filename"], file["bytes"], file["purpose"]) == ("notes.txt", 10, "assistants")
    assert await content(raw) == b"Some text."


async def test_parts_are_joined_in_the_order_that_is_asked_for(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    first, unused, second = await make_parts(raw, b"text.", b"unused", b"Some ")
    assert unused not in {first, second}
    succeeded(await complete(raw, [second, first]))
    assert await content(raw) == b"Some text."


async def test_parts_may_be_sent_at_once_and_be_empty(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    texts = [b"S", b"om", b"e ", b"", b"tex", b"t."]
    sent = await asyncio.gather(*(send_part(raw, text) for text in texts))
    succeeded(await complete(raw, [succeeded(part)["id"] for part in sent]))
    assert await content(raw) == b"Some text."


async def test_an_empty_file_needs_no_parts(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw, size=0)
    assert succeeded(await complete(raw, []))["file"]["bytes"] == 0
    assert await content(raw) == b""


async def test_a_part_may_come_without_a_name_and_in_chunks(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    body = form(('form-data; name="data"', b"Some text."))
    sent = await raw.post(f"/uploads/{UPLOAD}/parts", content=chunks(body, 7), headers=TYPE)
    succeeded(await complete(raw, [succeeded(sent)["id"]]))
    assert await content(raw) == b"Some text."


async def test_faults_in_a_part_are_told_like_those_in_json(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    path = f"/uploads/{UPLOAD}/parts"
    unknown = form(('form-data; name="data"', b""), field("color", "red"))
    assert answer(await raw.post(path, content=form(), headers=TYPE)) == refusal(
        400,
        "Missing required parameter: 'data'.",
        param="data",
        code="missing_required_parameter",
    )
    assert answer(await raw.post(path, content=unknown, headers=TYPE)) == refusal(
        400, "Unknown parameter: 'color'.", param="color", code="unknown_parameter"
    )
    refused = await raw.post(path, json={"data": "x"})
    assert "expected the content type 'multipart/form-data'" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"purpose": None}, "purpose", "invalid_type"),
        ({"bytes": -1}, "bytes", "integer_below_min_value"),
        ({"bytes": "10"}, "bytes", "invalid_type"),
        ({"bytes": 8 * 1024**3 + 1}, "bytes", "integer_above_max_value"),
        ({"bytes": 10**30}, "bytes", "invalid_type"),
        ({"filename": ""}, "filename", "empty_string"),
        ({"filename": "a/"}, "filename", "empty_string"),
        ({"filename": "x" * 256}, "filename", "string_above_max_length"),
        ({"mime_type": None}, "mime_type", "invalid_type"),
        ({"size": 10}, "size", "unknown_parameter"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds", None),
        ({"purpose": "world_domination"}, "purpose", None),
    ],
)
async def test_faults_in_an_announcement(
    raw: httpx2.AsyncClient, change: Json, param: str, code: str | None
) -> None:
    upload = {"filename": "a.txt", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    status, body = answer(await raw.post("/uploads", json=upload | change))
    assert (status, body["error"]["param"]) == (400, param)
    assert code is None or body["error"]["code"] == code


async def test_all_of_an_announcement_is_needed(raw: httpx2.AsyncClient) -> None:
    upload = {"filename": "a.txt", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    for name in upload:
        given = {key: value for key, value in upload.items() if key != name}
        assert answer(await raw.post("/uploads", json=given)) == refusal(
            400,
            f"Missing required parameter: '{name}'.",
            param=name,
            code="missing_required_parameter",
        )


async def test_the_file_lives_as_long_as_the_announcement_said(raw: httpx2.AsyncClient) -> None:
    life = {"anchor": "created_at", "seconds": 7200}
    assert await make_upload(raw, size=0, expires_after=life) == PENDING | {"bytes": 0}
    assert succeeded(await complete(raw, []))["file"]["expires_at"] == NOW + 7200


async def test_directories_are_no_part_of_a_name(raw: httpx2.AsyncClient) -> None:
    assert (await make_upload(raw, filename="C:\\docs/../a.txt"))["filename"] == "a.txt"


async def test_the_parts_must_have_the_announced_size(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    parts = await make_parts(raw, b"Some", b" text!!")
    for chosen, size in (([], 0), (parts[:1], 4), (parts, 11)):
        assert answer(await complete(raw, chosen)) == refusal(
            400,
            f"The parts have {size} bytes together, but the upload was announced with 10 bytes.",
            param="part_ids",
            code="invalid_value",
        )
    rest = await make_parts(raw, b" text.")
    succeeded(await complete(raw, [parts[0], *rest]))


async def test_parts_must_be_known_and_named_once(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    other = (await make_upload(raw))["id"]
    mine = (await make_parts(raw, b"Some "))[0]
    theirs = succeeded(await send_part(raw, b"text.", other))["id"]
    for unknown in (theirs, "part_unknown", ""):
        assert answer(await complete(raw, [mine, unknown])) == refusal(
            400,
            f"Invalid 'part_ids[1]': No upload part found with id '{unknown}'.",
            param="part_ids[1]",
            code="invalid_value",
        )
    assert answer(await complete(raw, [mine, mine])) == refusal(
        400,
        f"Invalid 'part_ids[1]': The part '{mine}' is named twice.",
        param="part_ids[1]",
        code="invalid_value",
    )
    assert answer(await raw.post(f"/uploads/{UPLOAD}/complete", json={})) == refusal(
        400,
        "Missing required parameter: 'part_ids'.",
        param="part_ids",
        code="missing_required_parameter",
    )


async def test_a_checksum_is_compared(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    parts = await make_parts(raw, b"Some ", b"text.")
    right = hashlib.md5(b"Some text.", usedforsecurity=False).hexdigest()
    wrong = hashlib.md5(b"text.Some ", usedforsecurity=False).hexdigest()
    assert answer(await complete(raw, parts, md5=wrong)) == refusal(
        400,
        f"The md5 checksum of the parts is '{right}', not '{wrong}'.",
        param="md5",
        code="invalid_value",
    )
    assert (await complete(raw, parts, md5=right.upper())).status_code == 200


async def test_nothing_follows_completion(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw, size=0)
    succeeded(await complete(raw, []))
    await all_refused(raw, not_pending("completed"))


async def test_an_upload_is_cancelled(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    parts = await make_parts(raw, b"Some text.")
    assert await post(raw, f"/uploads/{UPLOAD}/cancel") == PENDING | {"status": "cancelled"}
    await all_refused(raw, not_pending("cancelled"))
    assert answer(await complete(raw, parts)) == not_pending("cancelled")


async def test_an_upload_expires_after_an_hour(raw: httpx2.AsyncClient, clock: FrozenClock) -> None:
    await make_upload(raw)
    clock.advance(3599)
    await make_parts(raw, b"Some text.")
    clock.advance(1)
    await all_refused(raw, not_pending("expired"))


async def test_one_of_two_completions_wins(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    parts = await make_parts(raw, b"Some text.")
    answers = await asyncio.gather(*(complete(raw, parts) for _ in range(4)))
    assert sorted(one.status_code for one in answers) == [200, 400, 400, 400]
    assert len((await get(raw, "/files"))["data"]) == 1


async def test_a_file_is_deleted_although_it_came_in_parts(raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    succeeded(await complete(raw, await make_parts(raw, b"Some ", b"text.")))
    assert (await raw.delete(f"/files/{FILE}")).status_code == 200
    assert await statuses(raw, f"/files/{FILE}", f"/files/{FILE}/content") == [404, 404]


async def test_unknown_uploads_are_not_found(raw: httpx2.AsyncClient) -> None:
    unknown = refusal(404, f"No upload found with id '{UPLOAD}'.")
    await all_refused(raw, unknown)
    assert answer(await raw.post("/uploads/undefined/cancel")) == refusal(
        400,
        "Invalid 'upload_id': 'undefined'. Expected an ID that begins with 'upload'.",
        param="upload_id",
        code="invalid_value",
    )


async def test_parts_of_other_projects_are_unknown(still: Running, raw: httpx2.AsyncClient) -> None:
    await make_upload(raw)
    part = (await make_parts(raw, b"Some text."))[0]
    async with still.http(await still.new_key("other")) as other:
        mine = (await make_upload(other))["id"]
        refused = await other.post(f"/uploads/{mine}/complete", json={"part_ids": [part]})
        assert refused.status_code == 400
        assert f"No upload part found with id '{part}'" in refused.text


async def test_parts_and_uploads_have_their_limits(small: httpx2.AsyncClient) -> None:
    await make_upload(small, size=1000)
    assert answer(await send_part(small, b"x" * 101)) == TOO_LARGE
    refused = await small.post(
        "/uploads",
        json={"filename": "a", "purpose": "vision", "bytes": 1001, "mime_type": "image/png"},
    )
    assert answer(refused) == refusal(
        400,
        "Invalid 'bytes': integer above maximum value. Expected a value <= 1000, but got 1001 instead.",
        param="bytes",
        code="integer_above_max_value",
    )
    for _ in range(20):
        succeeded(await send_part(small, b"x" * 100))
    assert answer(await send_part(small, b"x")) == refusal(
        400, f"The parts of the upload '{UPLOAD}' are too large together."
    )


async def test_the_sdk_uploads_in_chunks(client: AsyncOpenAI) -> None:
    text = b"0123456789" * 1000
    done = await client.uploads.upload_file_chunked(
        file=text,
        filename="digits.txt",
        bytes=len(text),
        mime_type="text/plain",
        purpose="assistants",
        part_size=999,
        md5=hashlib.md5(text, usedforsecurity=False).hexdigest(),
    )
    assert (done.status, done.bytes) == ("completed", len(text))
    assert done.file is not None
    assert (await client.files.content(done.file.id)).read() == text
    with pytest.raises(BadRequestError, match="is completed: only a pending upload"):
        await client.uploads.cancel(done.id)
