"""Batches of files for a vector store, on the wire."""

import httpx2
import pytest

from tests.api.stores import (
    AUTO,
    attach,
    chunks_and_strays,
    counts,
    fail,
    ingest,
    make_files,
    make_store,
)
from tests.api.wire import NOW, Json, answer, get, make_file, nth, post, refusal
from tests.support.server import Running

SMALL: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
}


NONSENSE: list[tuple[Json, str, str]] = [
    ({}, "file_ids", "missing_required_parameter"),
    ({"attributes": {}}, "file_ids", "missing_required_parameter"),
    ({"file_ids": []}, "file_ids", "empty_array"),
    ({"files": []}, "files", "empty_array"),
    ({"file_ids": ["file-1"] * 2001}, "file_ids", "array_above_max_length"),
    ({"file_ids": ["file-1", 2]}, "file_ids[1]", "invalid_type"),
    ({"files": [{"attributes": {}}]}, "files[0].file_id", "missing_required_parameter"),
    ({"files": ["file-1"]}, "files[0]", "invalid_type"),
    ({"files": [{"file_id": "f"}]}, "files[0].file_id", "invalid_value"),
]


@pytest.fixture
async def store(raw: httpx2.AsyncClient) -> str:
    return (await make_store(raw))["id"]


@pytest.fixture
def batches(store: str) -> str:
    """The path of the store's batches."""
    return f"/vector_stores/{store}/file_batches"


@pytest.fixture
async def ids(raw: httpx2.AsyncClient) -> list[str]:
    return await make_files(raw, 3)


async def attached(raw: httpx2.AsyncClient, store: str) -> dict[str, tuple[Json, Json]]:
    """The attributes and chunking of the files in a store."""
    page = await get(raw, f"/vector_stores/{store}/files")
    return {file["id"]: (file["attributes"], file["chunking_strategy"]) for file in page["data"]}


async def test_a_batch_counts_its_files_from_the_first_answer_on(
    raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    made = await post(raw, batches, {"file_ids": ids})
    assert made == {
        "id": nth("vsfb"),
        "object": "vector_store.file_batch",
        "created_at": NOW,
        "vector_store_id": store,
        "status": "in_progress",
        "file_counts": counts(in_progress=3),
    }
    assert await get(raw, f"{batches}/{made['id']}") == made


async def test_options_of_a_batch_are_those_of_its_file_ids(
    raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    options = {"attributes": {"a": 1}, "chunking_strategy": SMALL}
    await post(raw, batches, {"file_ids": ids[:2], **options, "files": None})
    one: Json = {"file_id": ids[2], "attributes": {"b": "2"}}
    await post(raw, batches, {"files": [one], **options, "file_ids": None})
    assert await attached(raw, store) == {
        ids[0]: ({"a": 1}, SMALL),
        ids[1]: ({"a": 1}, SMALL),
        ids[2]: ({"b": "2"}, AUTO),
    }


async def test_a_file_named_twice_is_attached_once_as_it_was_named_last(
    raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    files = [{"file_id": ids[0], "attributes": {"n": n}} for n in range(3)]
    made = await post(raw, batches, {"files": files})
    assert made["file_counts"] == counts(in_progress=1)
    assert await attached(raw, store) == {ids[0]: ({"n": 2}, AUTO)}


async def test_a_file_belongs_to_the_batch_that_named_it_last(
    still: Running, raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    first = await post(raw, batches, {"file_ids": ids})
    await ingest(still, store, ids[0], "Text")
    second = await post(raw, batches, {"file_ids": ids[:2]})
    assert second["file_counts"] == counts(completed=1, in_progress=1)
    again = await get(raw, f"{batches}/{first['id']}")
    assert again["file_counts"] == counts(in_progress=1)


@pytest.mark.parametrize(("body", "param", "code"), NONSENSE)
async def test_what_makes_no_sense_is_refused(
    raw: httpx2.AsyncClient, batches: str, body: Json, param: str, code: str
) -> None:
    refused = await raw.post(batches, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code), error


async def test_files_are_named_one_way_only(raw: httpx2.AsyncClient, batches: str) -> None:
    body: Json = {"file_ids": ["file-1"], "files": [{"file_id": "file-1"}]}
    told = answer(await raw.post(batches, json=body))
    assert told == refusal(
        400,
        "Mutually exclusive parameters: 'file_ids'. Ensure you are only providing one of: 'file_ids' or 'files'.",
        param="file_ids",
        code="mutually_exclusive_parameters",
    )


async def test_a_batch_with_an_unfit_file_attaches_nothing(
    raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    told = answer(await raw.post(batches, json={"file_ids": [*ids, "file-1"]}))
    assert told == refusal(404, "Files [file-1] were not found")
    picture = (await make_file(raw, name="a.png"))["id"]
    refused = await raw.post(batches, json={"file_ids": [*ids, picture]})
    assert refused.json()["error"]["code"] == "unsupported_file"
    assert await attached(raw, store) == {}


async def test_a_batch_is_completed_when_none_of_its_files_is_in_progress(
    still: Running, raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    path = f"{batches}/{(await post(raw, batches, {'file_ids': ids}))['id']}"
    await ingest(still, store, ids[0], "Text")
    await fail(still, store, ids[1])
    waiting = await raw.get(path)
    assert waiting.json()["status"] == "in_progress"
    assert waiting.headers["openai-poll-after-ms"] == "500"
    await raw.delete(f"/vector_stores/{store}/files/{ids[2]}")
    done = await raw.get(path)
    assert done.json()["status"] == "completed"
    assert done.json()["file_counts"] == counts(completed=1, failed=1)
    assert "openai-poll-after-ms" not in done.headers


async def test_cancelling_gives_up_what_is_not_done(
    still: Running, raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    other = (await make_file(raw))["id"]
    await attach(raw, store, other)
    made = await post(raw, batches, {"file_ids": ids})
    await ingest(still, store, ids[0], "Text")
    path = f"{batches}/{made['id']}"
    cancelled = await post(raw, f"{path}/cancel")
    assert cancelled == made | {
        "status": "cancelled",
        "file_counts": counts(completed=1, cancelled=2),
    }
    assert await get(raw, path) == cancelled
    assert await post(raw, f"{path}/cancel") == cancelled
    shown = await get(raw, f"/vector_stores/{store}")
    assert shown["file_counts"] == counts(completed=1, cancelled=2, in_progress=1)
    assert await chunks_and_strays(still) == (1, 2)


async def test_a_cancelled_file_can_be_attached_again(
    raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    made = await post(raw, batches, {"file_ids": ids})
    await post(raw, f"{batches}/{made['id']}/cancel")
    assert (await attach(raw, store, ids[0]))["status"] == "in_progress"
    again = await get(raw, f"{batches}/{made['id']}")
    assert (again["status"], again["file_counts"]) == ("cancelled", counts(cancelled=2))
    assert (await raw.delete(f"/vector_stores/{store}")).status_code == 200


async def test_cancelling_what_is_done_leaves_it_so(
    still: Running, raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    made = await post(raw, batches, {"file_ids": ids[:1]})
    await ingest(still, store, ids[0], "Text")
    done = await post(raw, f"{batches}/{made['id']}/cancel")
    assert done == made | {"status": "completed", "file_counts": counts(completed=1)}


async def test_files_of_a_batch_are_listed(
    still: Running, raw: httpx2.AsyncClient, store: str, batches: str, ids: list[str]
) -> None:
    other = (await make_file(raw))["id"]
    await attach(raw, store, other)
    path = f"{batches}/{(await post(raw, batches, {'file_ids': ids}))['id']}/files"
    await ingest(still, store, ids[1], "Text")
    page = await get(raw, path, limit=2)
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = await get(raw, path, after=page["last_id"])
    assert [file["id"] for file in rest["data"]] == [ids[0]]
    ready = await get(raw, path, filter="completed")
    assert [file["id"] for file in ready["data"]] == [ids[1]]


async def test_a_batch_is_known_in_its_own_store_only(
    raw: httpx2.AsyncClient, batches: str, ids: list[str]
) -> None:
    made = (await post(raw, batches, {"file_ids": ids}))["id"]
    other = (await make_store(raw))["id"]
    there = f"/vector_stores/{other}/file_batches/{made}"
    missing = refusal(404, f"No vector store file batch found with id '{made}'.")
    told = [answer(await raw.get(there)), answer(await raw.get(f"{there}/files"))]
    assert [*told, answer(await raw.post(f"{there}/cancel"))] == [missing] * 3
    nowhere = refusal(404, "No vector store found with id 'vs_1'.")
    assert answer(await raw.get(f"/vector_stores/vs_1/file_batches/{made}")) == nowhere
