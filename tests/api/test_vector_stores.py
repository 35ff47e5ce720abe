"""Vector stores on the wire."""

import httpx2
import pytest
from sqlalchemy import insert

from tests.api.stores import (
    NO_FILES,
    attach,
    chunks_and_strays,
    counts,
    fail,
    generation,
    ingest,
    make_files,
    make_store,
)
from tests.api.wire import (
    NOW,
    Json,
    answer,
    answers_to_all_methods,
    get,
    make_file,
    nth,
    post,
    refusal,
)
from tests.support.server import Running, running_server
from threadloom.api.keys import ensure_project
from threadloom.db.rows import VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.retrieval.stores import MAX_FILES, row_id
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels
from threadloom.types.vector_stores import StaticChunking

DAY = 86_400
THREE_DAYS: Json = {"anchor": "last_active_at", "days": 3}
BARE: Json = {
    "id": nth("vs"),
    "object": "vector_store",
    "created_at": NOW,
    "name": None,
    "description": None,
    "usage_bytes": 0,
    "file_counts": NO_FILES,
    "status": "completed",
    "expires_after": None,
    "expires_at": None,
    "last_active_at": NOW,
    "metadata": {},
}
NULLS = ("name", "description", "file_ids", "metadata", "expires_after", "chunking_strategy")


@pytest.mark.parametrize("body", [{}, dict.fromkeys(NULLS), {"file_ids": [], "metadata": {}}])
async def test_a_store_can_be_made_of_nothing(raw: httpx2.AsyncClient, body: Json) -> None:
    assert await make_store(raw, **body) == BARE


async def test_a_store_keeps_what_it_was_given(raw: httpx2.AsyncClient) -> None:
    given = {"name": "FAQ", "description": "Answers.", "metadata": {"team": "7"}}
    made = await make_store(raw, **given, expires_after=THREE_DAYS)
    assert made == BARE | given | {"expires_after": THREE_DAYS, "expires_at": NOW + 3 * DAY}
    assert await get(raw, f"/vector_stores/{made['id']}") == made


async def test_a_store_is_made_with_files(raw: httpx2.AsyncClient) -> None:
    first, second = await make_files(raw, 2)
    chunking = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 9},
    }
    made = await make_store(raw, file_ids=[first, second, first], chunking_strategy=chunking)
    assert made["status"] == "in_progress"
    assert made["file_counts"] == counts(in_progress=2)
    page = await get(raw, f"/vector_stores/{made['id']}/files", order="asc")
    assert [file["id"] for file in page["data"]] == [first, second]
    assert [file["chunking_strategy"] for file in page["data"]] == [chunking, chunking]


async def test_files_are_counted_by_their_state(still: Running, raw: httpx2.AsyncClient) -> None:
    one, two, three, other = await make_files(raw, 4)
    store = (await make_store(raw, file_ids=[one, two, three]))["id"]
    quiet = (await make_store(raw, file_ids=[other]))["id"]
    await ingest(still, store, one, "Some", "text")
    await ingest(still, quiet, other, "Text")
    await fail(still, store, two)
    page = await get(raw, "/vector_stores")
    assert [(each["id"], each["file_counts"]) for each in page["data"]] == [
        (quiet, counts(completed=1)),
        (store, counts(completed=1, failed=1, in_progress=1)),
    ]
    assert [each["status"] for each in page["data"]] == ["completed", "in_progress"]
    assert [each["usage_bytes"] for each in page["data"]] == [4, 8]


async def test_stores_are_listed_in_pages(raw: httpx2.AsyncClient) -> None:
    made = [(await make_store(raw))["id"] for _ in range(3)]
    page = await get(raw, "/vector_stores", limit=2)
    assert [store["id"] for store in page["data"]] == made[:0:-1]
    assert page["has_more"] is True
    rest = await get(raw, "/vector_stores", after=page["last_id"])
    assert [store["id"] for store in rest["data"]] == made[:1]
    await raw.delete(f"/vector_stores/{made[1]}")
    assert await get(raw, "/vector_stores", after=made[1]) == rest


async def test_modifying_changes_the_given_keys_only(
    raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    made = await make_store(raw, name="FAQ", metadata={"a": "1"}, expires_after=THREE_DAYS)
    path = f"/vector_stores/{made['id']}"
    clock.advance(10)
    used = {"last_active_at": NOW + 10, "expires_at": NOW + 10 + 3 * DAY}
    assert await post(raw, path, {}) == made | used
    assert await post(raw, path, {"metadata": {"b": "2"}}) == made | used | {"metadata": {"b": "2"}}
    cleared = {"name": None, "expires_after": None, "expires_at": None, "metadata": {"b": "2"}}
    body = {"name": None, "expires_after": None, "metadata": None}
    assert await post(raw, path, body) == made | used | cleared


async def test_a_deleted_store_is_gone_and_its_files_stay(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    file = (await make_file(raw))["id"]
    store = (await make_store(raw, file_ids=[file]))["id"]
    await ingest(still, store, file, "Some", "text")
    gone = answer(await raw.delete(f"/vector_stores/{store}"))
    assert gone == (200, {"id": store, "object": "vector_store.deleted", "deleted": True})
    missing = refusal(404, f"No vector store found with id '{store}'.")
    assert await answers_to_all_methods(raw, f"/vector_stores/{store}") == [missing] * 3
    assert (await raw.get(f"/vector_stores/{store}/files/{file}")).status_code == 404
    assert (await raw.get(f"/files/{file}")).status_code == 200
    assert await chunks_and_strays(still) == (2, 1)


async def test_an_id_of_another_kind_is_refused(raw: httpx2.AsyncClient) -> None:
    told = answer(await raw.get("/vector_stores/file-1"))
    assert told == refusal(
        400,
        "Invalid 'vector_store_id': 'file-1'. Expected an ID that begins with 'vs'.",
        param="vector_store_id",
        code="invalid_value",
    )
    told = answer(await raw.post("/vector_stores", json={"file_ids": ["vs_1"]}))
    assert told == refusal(
        400,
        "Invalid 'file_ids[0]': 'vs_1'. Expected an ID that begins with 'file'.",
        param="file_ids[0]",
        code="invalid_value",
    )


async def test_a_store_takes_no_unknown_files(raw: httpx2.AsyncClient) -> None:
    known = (await make_file(raw))["id"]
    body = {"file_ids": ["file-a", known, "file-b"]}
    told = answer(await raw.post("/vector_stores", json=body))
    assert told == refusal(404, "Files [file-a, file-b] were not found")
    assert (await get(raw, "/vector_stores"))["data"] == []


async def test_a_store_takes_no_files_that_search_cannot_read(raw: httpx2.AsyncClient) -> None:
    files = [(await make_file(raw, name=name))["id"] for name in ("a.txt", "b.png", "c.CSV")]
    told = answer(await raw.post("/vector_stores", json={"file_ids": files}))
    assert told == refusal(
        400,
        "Files with extensions [.csv, .png] are not supported for retrieval. See "
        "https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
        param="file_ids",
        code="unsupported_file",
    )


async def test_a_file_without_an_extension_is_refused_in_words(raw: httpx2.AsyncClient) -> None:
    files = [(await make_file(raw, name=name))["id"] for name in ("README", "b.png")]
    told = await raw.post("/vector_stores", json={"file_ids": files})
    assert told.json()["error"]["message"].startswith(
        "Files with extensions [.png, none] are not supported for retrieval."
    )


@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        ("expires_after", {"anchor": "last_active_at", "days": 0}, "expires_after.days", "integer_below_min_value"),
        ("expires_after", {"anchor": "last_active_at", "days": 366}, "expires_after.days", "integer_above_max_value"),
        ("expires_after", {"anchor": "created_at", "days": 1}, "expires_after.anchor", "invalid_value"),
        ("chunking_strategy", {"type": "other"}, "chunking_strategy.type", "invalid_value"),
        ("chunking_strategy", {"type": "auto", "static": {}}, "chunking_strategy.static", "unknown_parameter"),
        ("chunking_strategy", {"type": "static"}, "chunking_strategy.static", "missing_required_parameter"),
        (
            "chunking_strategy",
            {"type": "static", "static": {"max_chunk_size_tokens": 100}},
            "chunking_strategy.static.chunk_overlap_tokens",
            "missing_required_parameter",
        ),
        (
            "chunking_strategy",
            {"type": "static", "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}},
            "chunking_strategy.static.max_chunk_size_tokens",
            "integer_below_min_value",
        ),
        (
            "chunking_strategy",
            {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}},
            "chunking_strategy.static.chunk_overlap_tokens",
            "invalid_value",
        ),
        ("file_ids", ["file-1"] * 501, "file_ids", "array_above_max_length"),
        ("metadata", {"a": 1}, "metadata.a", "invalid_type"),
        ("colour", "red", "colour", "unknown_parameter"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(
    raw: httpx2.AsyncClient, field: str, value: object, param: str, code: str
) -> None:
    refused = await raw.post("/vector_stores", json={field: value})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code), error


async def test_a_store_expires_some_days_after_its_last_use(
    still: Running, raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    file = (await make_file(raw))["id"]
    made = await make_store(raw, expires_after=THREE_DAYS, file_ids=[file])
    path = f"/vector_stores/{made['id']}"
    await ingest(still, made["id"], file, "Some text")
    clock.advance(3 * DAY - 1)
    assert (await get(raw, path))["status"] == "completed"
    await attach(raw, made["id"], file)
    clock.advance(2)
    assert (await get(raw, path))["status"] == "completed"
    clock.advance(3 * DAY)
    over = await get(raw, path)
    assert over["status"] == "expired"
    assert over["expires_at"] == over["last_active_at"] + 3 * DAY == NOW + 6 * DAY - 1


async def test_an_expired_store_takes_nothing_and_does_not_come_back(
    raw: httpx2.AsyncClient, clock: FrozenClock
) -> None:
    file = (await make_file(raw))["id"]
    store = (await make_store(raw, expires_after=THREE_DAYS))["id"]
    path = f"/vector_stores/{store}"
    clock.advance(3 * DAY)
    over = refusal(400, f"Vector store '{store}' has expired.")
    bodies: list[tuple[str, Json]] = [
        (path, {"expires_after": None}),
        (f"{path}/files", {"file_id": file}),
        (f"{path}/file_batches", {"file_ids": [file]}),
    ]
    assert [answer(await raw.post(to, json=body)) for to, body in bodies] == [over] * 3
    changed = await post(raw, path, {"name": "Old"})
    assert (changed["name"], changed["status"], changed["last_active_at"]) == (
        "Old",
        "expired",
        NOW,
    )


async def test_only_what_a_search_could_find_raises_the_generation(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    file = (await make_file(raw))["id"]
    store = (await make_store(raw, file_ids=[file]))["id"]
    path = f"/vector_stores/{store}"
    assert await generation(still, store) == 0
    await post(raw, path, {"name": "FAQ"})
    assert await generation(still, store) == 0
    await post(raw, f"{path}/files/{file}", {"attributes": {"year": 2024}})
    assert await generation(still, store) == 1
    await raw.delete(f"{path}/files/{file}")
    assert await generation(still, store) == 2


async def test_clients_of_version_1_are_refused(raw: httpx2.AsyncClient) -> None:
    refused = await raw.get("/vector_stores", headers={"OpenAI-Beta": "assistants=v1"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_beta"


async def test_no_header_is_needed_where_others_need_it(
    database_url: str, model: ScriptedModel
) -> None:
    strict = {"compat": {"strict_beta_header": True}}
    async with (
        running_server(
            database_url, ScriptedModels(model), settings=strict, with_worker=False
        ) as server,
        server.http() as http,
    ):
        assert (await http.get("/assistants")).status_code == 400
        assert (await http.get("/vector_stores")).status_code == 200


async def test_a_store_holds_ten_thousand_files_at_most(
    still: Running, raw: httpx2.AsyncClient
) -> None:
    *most, last = await make_files(raw, 3)
    store = (await make_store(raw))["id"]
    await still.database.write(fill_up, store, MAX_FILES - 2)
    path = f"/vector_stores/{store}/files"
    for file in (*most, most[0]):
        await post(raw, path, {"file_id": file})
    told = answer(await raw.post(path, json={"file_id": last}))
    message = (
        f"Vector store '{store}' has 10000 files and cannot take 1 more. The maximum is 10000."
    )
    assert told == refusal(400, message)


def fill_up(tx: Tx, store: str, number: int) -> None:
    """Put files into a store whose files nobody looks at."""
    fields: Json = {
        "vector_store_id": store,
        "project_id": ensure_project(tx),
        "created_at": NOW,
        "status": "completed",
        "usage_bytes": 0,
        "attributes": {},
        "chunking_strategy": StaticChunking(),
    }
    rows = [
        fields | {"id": row_id(store, f"file-{n}"), "file_id": f"file-{n}"} for n in range(number)
    ]
    tx.session.connection().execute(insert(VectorStoreFileRow), rows)
