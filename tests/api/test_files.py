"""Files: created, listed, read, deleted."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.api.wire import (
    NOW,
    Json,
    answer,
    get,
    make_assistant,
    make_file,
    make_thread,
    post,
    refusal,
    send_file,
)
from tests.support.server import running_server
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds

DAY = 86_400
EMPTY: Json = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def file_id(number: int = 1) -> str:
    return f"file-{number:024d}"


def no_such(file_id: str) -> tuple[int, Json]:
    return refusal(404, f"No such File object: {file_id}", param="id")


@pytest.fixture
async def guarded(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server that lets files be downloaded as OpenAI did."""
    async with (
        running_server(
            database_url,
            ScriptedModels(ScriptedModel()),
            settings={"files": {"download_all": False}},
            ids=SequentialIds(),
            with_worker=False,
        ) as running,
        running.http() as raw,
    ):
        yield raw


async def test_a_file_is_what_was_sent(raw: httpx2.AsyncClient) -> None:
    made = await make_file(raw, b"Some text.", "notes.txt")
    assert made == {
        "object": "file",
        "id": file_id(),
        "purpose": "assistants",
        "filename": "notes.txt",
        "bytes": 10,
        "created_at": NOW,
        "expires_at": None,
        "status": "processed",
        "status_details": None,
    }
    assert await get(raw, f"/files/{file_id()}") == made
    assert (await raw.get(f"/files/{file_id()}/content")).content == b"Some text."


async def test_a_file_may_be_empty(raw: httpx2.AsyncClient) -> None:
    assert (await make_file(raw, b""))["bytes"] == 0
    content = await raw.get(f"/files/{file_id()}/content")
    assert (content.content, content.headers["content-length"]) == (b"", "0")


@pytest.mark.parametrize(
    "purpose", ["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
)
async def test_files_have_a_purpose(raw: httpx2.AsyncClient, purpose: str) -> None:
    assert (await make_file(raw, purpose=purpose))["purpose"] == purpose


async def test_a_purpose_of_ours_or_of_nobody_is_refused(raw: httpx2.AsyncClient) -> None:
    for purpose in ("world_domination", "assistants_output", ""):
        assert answer(await send_file(raw, purpose=purpose)) == refusal(
            400,
            f"'{purpose}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']"
            " - 'purpose'",
            param="purpose",
        )


async def test_files_are_listed_newest_first(raw: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await make_file(raw)
    page = await get(raw, "/files")
    assert [file["id"] for file in page["data"]] == [file_id(3), file_id(2), file_id(1)]
    page = await get(raw, "/files", order="asc", limit=1, after=file_id(1))
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([file_id(2)], True)


async def test_files_are_listed_by_purpose(raw: httpx2.AsyncClient) -> None:
    await make_file(raw, purpose="vision")
    await make_file(raw, purpose="user_data")
    found = await get(raw, "/files", purpose="vision")
    assert [file["id"] for file in found["data"]] == [file_id(1)]
    assert await get(raw, "/files", purpose="batch") == EMPTY
    assert len((await get(raw, "/files", purpose=""))["data"]) == 2


async def test_a_list_has_ten_thousand_files_at_most(raw: httpx2.AsyncClient) -> None:
    await make_file(raw)
    assert len((await get(raw, "/files", limit=10_000))["data"]) == 1
    assert answer(await raw.get("/files", params={"limit": 10_001})) == refusal(
        400,
        "Invalid 'limit': integer above maximum value. Expected a value <= 10000, but got 10001 instead.",
        param="limit",
        code="integer_above_max_value",
    )


async def test_paging_goes_on_from_a_file_that_was_just_deleted(raw: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await make_file(raw)
    await raw.delete(f"/files/{file_id(2)}")
    page = await get(raw, "/files", after=file_id(2))
    assert [file["id"] for file in page["data"]] == [file_id(1)]


async def test_any_unknown_file_is_unknown(raw: httpx2.AsyncClient) -> None:
    for unknown in (file_id(), "undefined", "asst_1"):
        for path in (f"/files/{unknown}", f"/files/{unknown}/content"):
            assert answer(await raw.get(path)) == no_such(unknown)
        assert answer(await raw.delete(f"/files/{unknown}")) == no_such(unknown)


async def test_a_deleted_file_is_gone(raw: httpx2.AsyncClient) -> None:
    await make_file(raw)
    gone = answer(await raw.delete(f"/files/{file_id()}"))
    assert gone == (200, {"id": file_id(), "object": "file", "deleted": True})
    assert answer(await raw.get(f"/files/{file_id()}")) == no_such(file_id())
    assert answer(await raw.delete(f"/files/{file_id()}")) == no_such(file_id())
    assert await get(raw, "/files") == EMPTY


async def test_one_of_two_deletions_wins(raw: httpx2.AsyncClient) -> None:
    await make_file(raw)
    path = f"/files/{file_id()}"
    answers = await asyncio.gather(*(raw.delete(path) for _ in range(4)))
    assert sorted(one.status_code for one in answers) == [200, 404, 404, 404]


async def test_a_file_lives_as_long_as_it_was_told(
    raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    life = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = await make_file(raw, fields=life)
    assert made["expires_at"] == NOW + 3600
    clock.advance(3599)
    assert await get(raw, f"/files/{file_id()}") == made
    clock.advance(1)
    for path in (f"/files/{file_id()}", f"/files/{file_id()}/content"):
        assert answer(await raw.get(path)) == no_such(file_id())
    assert answer(await raw.delete(f"/files/{file_id()}")) == no_such(file_id())
    assert await get(raw, "/files") == EMPTY


async def test_files_for_batches_live_for_thirty_days(raw: httpx2.AsyncClient) -> None:
    assert (await make_file(raw, purpose="batch"))["expires_at"] == NOW + 30 * DAY
    life = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert (await make_file(raw, purpose="batch", fields=life))["expires_at"] == NOW + 3600


LIFE_FAULTS: list[tuple[dict[str, str], str, str, str]] = [
    (
        {"expires_after[anchor]": "created_at"},
        "expires_after.seconds",
        "missing_required_parameter",
        "Missing required parameter: 'expires_after.seconds'.",
    ),
    (
        {"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"},
        "expires_after.anchor",
        "invalid_value",
        "Invalid value: 'last_active_at'. Supported values are: 'created_at'.",
    ),
    (
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
        "expires_after.seconds",
        "integer_below_min_value",
        (
            "Invalid 'expires_after.seconds': integer below minimum value. "
            "Expected a value >= 3600, but got 3599 instead."
        ),
    ),
    (
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"},
        "expires_after.seconds",
        "integer_above_max_value",
        (
            "Invalid 'expires_after.seconds': integer above maximum value. "
            "Expected a value <= 2592000, but got 2592001 instead."
        ),
    ),
    (
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e4"},
        "expires_after.seconds",
        "invalid_type",
        "Invalid type for 'expires_after.seconds': expected an integer, but got a string instead.",
    ),
    (
        {"expires_after[anchor]": "created_at", "expires_after[hours]": "1"}
        | {"expires_after[seconds]": "3600"},
        "expires_after.hours",
        "unknown_parameter",
        "Unknown parameter: 'expires_after.hours'.",
    ),
    (
        {"expires_after": "3600"},
        "expires_after",
        "invalid_type",
        "Invalid type for 'expires_after': expected an object, but got a string instead.",
    ),
    (
        {"expires_after": "3600", "expires_after[seconds]": "3600"},
        "expires_after",
        "invalid_type",
        "Invalid type for 'expires_after': expected an object, but got a string instead.",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code", "message"), LIFE_FAULTS)
async def test_faults_in_nested_fields_are_told_as_in_json(
    raw: httpx2.AsyncClient, fields: dict[str, str], param: str, code: str, message: str
) -> None:
    refused = answer(await send_file(raw, fields=fields))
    assert refused == refusal(400, message, param=param, code=code)


async def test_deleting_a_file_takes_it_from_code_interpreters(raw: httpx2.AsyncClient) -> None:
    gone, kept = [(await make_file(raw))["id"] for _ in range(2)]
    both: Json = {"code_interpreter": {"file_ids": [gone, kept]}}
    assistant = await make_assistant(raw, tool_resources=both)
    thread = await make_thread(raw, tool_resources=both)
    untouched = await make_assistant(raw, tool_resources={"code_interpreter": {"file_ids": [kept]}})
    await raw.delete(f"/files/{gone}")
    left = {"code_interpreter": {"file_ids": [kept]}}
    for path in (f"/assistants/{assistant['id']}", f"/threads/{thread['id']}"):
        assert (await get(raw, path))["tool_resources"] == left
    assert await get(raw, f"/assistants/{untouched['id']}") == untouched


async def test_deleting_a_file_takes_it_from_vector_stores(raw: httpx2.AsyncClient) -> None:
    gone, kept = [(await make_file(raw))["id"] for _ in range(2)]
    stores = [await post(raw, "/vector_stores", {"file_ids": [gone, kept]}) for _ in range(2)]
    await raw.delete(f"/files/{gone}")
    for store in stores:
        path = f"/vector_stores/{store['id']}"
        assert [one["id"] for one in (await get(raw, f"{path}/files"))["data"]] == [kept]
        assert (await get(raw, path))["file_counts"]["total"] == 1
        assert (await raw.get(f"{path}/files/{gone}")).status_code == 404


async def test_files_of_every_purpose_can_be_downloaded(raw: httpx2.AsyncClient) -> None:
    for purpose in ("assistants", "user_data", "vision"):
        made = await make_file(raw, purpose=purpose)
        assert (await raw.get(f"/files/{made['id']}/content")).content == b"Some text."


async def test_an_operator_can_refuse_downloads_as_openai_did(guarded: httpx2.AsyncClient) -> None:
    for purpose in ("assistants", "user_data"):
        made = await make_file(guarded, purpose=purpose)
        assert answer(await guarded.get(f"/files/{made['id']}/content")) == refusal(
            400, f"Not allowed to download files of purpose: {purpose}"
        )
    vision = await make_file(guarded, purpose="vision")
    assert (await guarded.get(f"/files/{vision['id']}/content")).content == b"Some text."


async def test_the_sdk_creates_lists_reads_and_deletes(client: AsyncOpenAI) -> None:
    made = await client.files.create(
        file=("Résumé.md", b"# Me"),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.filename, made.bytes, made.expires_at) == (
        "Résumé.md",
        4,
        made.created_at + 3600,
    )
    others = [await client.files.create(file=b"text", purpose="vision") for _ in range(4)]
    listed = [file.id async for file in client.files.list(limit=2)]
    assert listed == [*[file.id for file in others][::-1], made.id]
    assert (await client.files.wait_for_processing(made.id)).id == made.id
    assert (await client.files.content(made.id)).read() == b"# Me"
    assert (await client.files.delete(made.id)).deleted
