"""Files in a vector store, on the wire."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.api.stores import (
    AUTO,
    attach,
    chunks_and_strays,
    counts,
    fail,
    generation,
    ingest,
    ingest_at,
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
    post,
    refusal,
)
from tests.support.server import Running, running_server
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels

SMALL: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
}
READY: Json = {"status": "completed", "progress": 1.0}


def in_store(store_id: str, file_id: str) -> Json:
    """A file that was just attached."""
    return {
        "id": file_id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": NOW,
        "vector_store_id": store_id,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": AUTO,
        "attributes": {},
        "progress": 0.0,
    }


@pytest.fixture
async def store(raw: httpx2.AsyncClient) -> str:
    return (await make_store(raw))["id"]


@pytest.fixture
async def file(raw: httpx2.AsyncClient) -> str:
    return (await make_file(raw))["id"]


@pytest.fixture
def files(store: str) -> str:
    """The path of the store's files."""
    return f"/vector_stores/{store}/files"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"attributes": None, "chunking_strategy": None},
        {"chunking_strategy": {"type": "auto"}},
        {"chunking_strategy": AUTO},
    ],
)
async def test_a_file_is_in_progress_and_counted_at_once(
    raw: httpx2.AsyncClient, store: str, file: str, body: Json
) -> None:
    made = await attach(raw, store, file, **body)
    assert made == in_store(store, file)
    assert await get(raw, f"/vector_stores/{store}/files/{file}") == made
    shown = await get(raw, f"/vector_stores/{store}")
    assert (shown["status"], shown["file_counts"]) == ("in_progress", counts(in_progress=1))


async def test_a_file_keeps_its_attributes_and_its_chunking(
    raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    attributes = {"name": "x", "year": 2024, "share": 0.5, "draft": True, "round": 3.0}
    made = await attach(raw, store, file, attributes=attributes, chunking_strategy=SMALL)
    assert made == in_store(store, file) | {"attributes": attributes, "chunking_strategy": SMALL}
    assert type(made["attributes"]["year"]) is int
    assert made["attributes"]["draft"] is True


@pytest.mark.parametrize(
    ("attributes", "param", "code"),
    [
        ({str(n): n for n in range(17)}, "attributes", "object_above_max_properties"),
        ({"k" * 65: 1}, "attributes." + "k" * 65, "property_name_above_max_length"),
        ({"k": "v" * 513}, "attributes.k", "string_above_max_length"),
        ({"k": None}, "attributes.k", "invalid_type"),
        ({"k": [1]}, "attributes.k", "invalid_type"),
        ("k", "attributes", "invalid_type"),
    ],
)
async def test_attributes_are_few_short_and_flat(
    raw: httpx2.AsyncClient, store: str, file: str, attributes: object, param: str, code: str
) -> None:
    path = f"/vector_stores/{store}/files"
    for to, body in ((path, {"file_id": file}), (f"{path}/{file}", {})):
        refused = await raw.post(to, json=body | {"attributes": attributes})
        error = refused.json()["error"]
        assert (refused.status_code, error["param"], error["code"]) == (400, param, code), error


async def test_attributes_are_replaced_whole(
    raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    made = await attach(raw, store, file, attributes={"a": 1, "b": 2})
    path = f"/vector_stores/{store}/files/{file}"
    assert await post(raw, path, {"attributes": {"b": 3}}) == made | {"attributes": {"b": 3}}
    assert (await get(raw, path))["attributes"] == {"b": 3}
    assert (await post(raw, path, {"attributes": None}))["attributes"] == {}
    told = answer(await raw.post(path, json={}))
    assert told == refusal(
        400,
        "Missing required parameter: 'attributes'.",
        param="attributes",
        code="missing_required_parameter",
    )


async def test_a_file_that_is_ready_stays_so_when_it_is_attached_again(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    made = await attach(raw, store, file, attributes={"a": 1})
    await ingest(still, store, file, "Some text")
    ready = made | READY | {"usage_bytes": 9}
    before = await generation(still, store)
    assert await attach(raw, store, file) == ready
    assert await generation(still, store) == before
    assert await attach(raw, store, file, attributes={"a": 2}) == ready | {"attributes": {"a": 2}}
    assert await generation(still, store) != before
    assert (await get(raw, f"/vector_stores/{store}"))["file_counts"] == counts(completed=1)


async def test_a_file_is_taken_in_anew_to_be_cut_otherwise(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    await attach(raw, store, file)
    await ingest(still, store, file, "Some text")
    before = await generation(still, store)
    made = await attach(raw, store, file, chunking_strategy=SMALL)
    assert made == in_store(store, file) | {"chunking_strategy": SMALL}
    assert await generation(still, store) != before
    assert await chunks_and_strays(still) == (1, 1)


async def test_a_file_that_failed_is_taken_in_anew(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    made = await attach(raw, store, file)
    await fail(still, store, file)
    failed = await get(raw, f"/vector_stores/{store}/files/{file}")
    error = {"code": "invalid_file", "message": "The file is empty."}
    assert failed == made | {"status": "failed", "last_error": error}
    assert await attach(raw, store, file) == made


async def test_a_detached_file_is_gone_from_the_store_only(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    await attach(raw, store, file)
    await ingest(still, store, file, "Some text")
    path = f"/vector_stores/{store}/files/{file}"
    gone = {"id": file, "object": "vector_store.file.deleted", "deleted": True}
    assert answer(await raw.delete(path)) == (200, gone)
    missing = refusal(404, f"No file found with id '{file}' in vector store '{store}'.")
    told = await answers_to_all_methods(raw, path)
    assert [told[0], told[2]] == [missing, missing]
    assert answer(await raw.post(path, json={"attributes": {}})) == missing
    assert answer(await raw.get(f"{path}/content")) == missing
    assert (await raw.get(f"/files/{file}")).status_code == 200
    assert (await get(raw, f"/vector_stores/{store}"))["file_counts"] == counts()
    assert await chunks_and_strays(still) == (1, 1)
    assert await attach(raw, store, file) == in_store(store, file)


async def test_a_deleted_file_is_gone_from_its_stores(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    other = (await make_store(raw, file_ids=[file]))["id"]
    await attach(raw, store, file)
    await ingest(still, store, file, "Some text")
    before = await generation(still, store)
    await raw.delete(f"/files/{file}")
    for each in (store, other):
        assert (await get(raw, f"/vector_stores/{each}"))["file_counts"] == counts()
        assert (await raw.get(f"/vector_stores/{each}/files/{file}")).status_code == 404
    assert await generation(still, store) != before
    told = answer(await raw.post(f"/vector_stores/{store}/files", json={"file_id": file}))
    assert told == refusal(404, f"Files [{file}] were not found")


async def test_unknown_stores_and_files_are_told_apart(
    raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    nowhere = refusal(404, "No vector store found with id 'vs_1'.")
    assert answer(await raw.post("/vector_stores/vs_1/files", json={"file_id": file})) == nowhere
    for path in ("", f"/{file}", f"/{file}/content"):
        assert answer(await raw.get(f"/vector_stores/vs_1/files{path}")) == nowhere
    assert answer(await raw.delete(f"/vector_stores/vs_1/files/{file}")) == nowhere
    told = answer(await raw.get(f"/vector_stores/{store}/files/{file}"))
    assert told == refusal(404, f"No file found with id '{file}' in vector store '{store}'.")
    told = answer(await raw.post(f"/vector_stores/{store}/files", json={"file_id": "file-1"}))
    assert told == refusal(404, "Files [file-1] were not found")


async def test_an_expired_file_cannot_be_attached(
    raw: httpx2.AsyncClient, store: str, clock: FrozenClock
) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = (await make_file(raw, fields=fields))["id"]
    clock.advance(3600)
    told = answer(await raw.post(f"/vector_stores/{store}/files", json={"file_id": file}))
    assert told == refusal(404, f"Files [{file}] were not found")


async def test_tables_are_taken_when_the_operator_wants_them(
    database_url: str, model: ScriptedModel
) -> None:
    async with (
        running_server(
            database_url,
            ScriptedModels(model),
            settings={"file_search": {"tables": True}},
            with_worker=False,
        ) as server,
        server.http() as http,
    ):
        store = (await make_store(http))["id"]
        table = (await make_file(http, name="figures.CSV"))["id"]
        assert (await attach(http, store, table))["status"] == "in_progress"


async def test_files_are_listed_in_pages_by_their_own_ids(
    raw: httpx2.AsyncClient, store: str, files: str
) -> None:
    ids = await make_files(raw, 4)
    for each in ids:
        await attach(raw, store, each)
    page = await get(raw, files, limit=2)
    assert [file["id"] for file in page["data"]] == [ids[3], ids[2]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[3], ids[2], True)
    rest = await get(raw, files, after=page["last_id"])
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[1], ids[0]], False)
    assert (await get(raw, files, before=ids[1], limit=2))["data"] == page["data"]
    assert (await get(raw, files, after=ids[0]))["data"] == []
    oldest = await get(raw, files, order="asc", limit=1)
    assert [file["id"] for file in oldest["data"]] == [ids[0]]


async def test_paging_goes_on_from_a_file_that_came_and_went(
    raw: httpx2.AsyncClient, store: str, files: str
) -> None:
    ids = await make_files(raw, 3)
    for rest in ([ids[0]], [ids[2], ids[0]]):
        for each in ids:
            await attach(raw, store, each)
        await raw.delete(f"{files}/{ids[1]}")
        page = await get(raw, files, after=ids[1])
        assert [file["id"] for file in page["data"]] == rest


async def test_an_unknown_cursor_is_refused(raw: httpx2.AsyncClient, files: str, file: str) -> None:
    other = (await make_store(raw, file_ids=[file]))["id"]
    assert len((await get(raw, f"/vector_stores/{other}/files"))["data"]) == 1
    told = answer(await raw.get(files, params={"after": file}))
    assert told == refusal(
        400,
        f"Invalid 'after': no file found with id '{file}'.",
        param="after",
        code="invalid_value",
    )


async def test_files_are_listed_by_status(
    still: Running, raw: httpx2.AsyncClient, store: str, files: str
) -> None:
    ready, failed, waiting = await make_files(raw, 3)
    for each in (ready, failed, waiting):
        await attach(raw, store, each)
    await ingest(still, store, ready, "Text")
    await fail(still, store, failed)
    expected = {"completed": [ready], "failed": [failed], "in_progress": [waiting], "cancelled": []}
    for status, ids in expected.items():
        page = await get(raw, files, filter=status)
        assert [file["id"] for file in page["data"]] == ids
    refused = await raw.get(files, params={"filter": "done"})
    assert refused.json()["error"]["param"] == "filter"


async def test_unfinished_files_say_when_to_ask_again(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    await attach(raw, store, file)
    path = f"/vector_stores/{store}/files/{file}"
    assert (await raw.get(path)).headers["openai-poll-after-ms"] == "500"
    await ingest(still, store, file, "Text")
    assert "openai-poll-after-ms" not in (await raw.get(path)).headers


async def test_the_text_of_a_file_has_each_part_once(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str
) -> None:
    await attach(raw, store, file)
    path = f"/vector_stores/{store}/files/{file}/content"
    page: Json = {
        "object": "vector_store.file_content.page",
        "data": [],
        "has_more": False,
        "next_page": None,
    }
    assert await get(raw, path) == page
    chunks = [(0, "One two three"), (4, "two three four"), (8, "three"), (20, "five"), (25, "six")]
    await ingest_at(still, store, file, *chunks)
    texts = ["One two three", " four", "\n\nfive", "\nsix"]
    data = [{"type": "text", "text": text} for text in texts]
    assert await get(raw, path) == page | {"data": data}


async def test_an_expired_file_is_gone_before_it_is_swept(
    still: Running, raw: httpx2.AsyncClient, store: str, file: str, clock: FrozenClock
) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    expiring = (await make_file(raw, fields=fields))["id"]
    path = f"/vector_stores/{store}/files"
    for one in (file, expiring):
        await attach(raw, store, one)
        await ingest(still, store, one, "Text")
    clock.advance(3599)
    assert len((await get(raw, path))["data"]) == 2
    assert len((await get(raw, f"{path}/{expiring}/content"))["data"]) == 1
    clock.advance(1)
    assert [one["id"] for one in (await get(raw, path))["data"]] == [file]
    gone = refusal(404, f"No file found with id '{expiring}' in vector store '{store}'.")
    for end in ("", "/content"):
        assert answer(await raw.get(f"{path}/{expiring}{end}")) == gone
    assert len((await get(raw, f"{path}/{file}/content"))["data"]) == 1


@pytest.fixture
async def sdk(still: Running) -> AsyncGenerator[AsyncOpenAI]:
    async with still.openai() as client:
        yield client


async def test_the_sdk_reads_stores_and_files(
    still: Running, sdk: AsyncOpenAI, store: str, file: str
) -> None:
    made = await sdk.vector_stores.files.create(store, file_id=file, attributes={"a": 1})
    assert (made.id, made.status) == (file, "in_progress")
    await ingest(still, store, file, "Some ", "text")
    polled = await sdk.vector_stores.files.poll(file, vector_store_id=store)
    assert (polled.status, polled.attributes) == ("completed", {"a": 1.0})
    page = await sdk.vector_stores.files.content(file, vector_store_id=store)
    assert "".join([str(part.text) for part in page.data]) == "Some text"
    listed = [each.id async for each in sdk.vector_stores.files.list(store)]
    assert listed == [file]
