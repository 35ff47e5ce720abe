"""What stands around every request: keys, addresses, headers."""

import re
from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.api.wire import Json, answer, get, make_assistant, nth, post, refusal
from tests.support.server import Running, running_server
from threadloom import __version__
from threadloom.api.edge import NO_KEY
from threadloom.api.route import BETA_MISSING, BETA_V1
from threadloom.testing import ScriptedModel, ScriptedModels

EVERY_ANSWER = {
    "x-request-id": r"req_[0-9a-f]{32}",
    "openai-version": "2020-10-01",
    "openai-processing-ms": r"\d+",
    "openai-organization": "threadloom",
    "openai-project": nth("proj"),
}
JSON_ANSWER = EVERY_ANSWER | {"content-type": "application/json", "content-length": r"\d+"}
STREAM = EVERY_ANSWER | {"content-type": "text/event-stream; charset=utf-8"}
NO_BETA = refusal(400, BETA_MISSING, code="invalid_beta")


@pytest.fixture
async def strict(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server that wants the beta header, as the hosted service did."""
    settings = {"compat": {"strict_beta_header": True}}
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, settings=settings, with_worker=False) as running,
        running.http() as raw,
    ):
        yield raw


@pytest.fixture
async def bare(still: Running) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client without a key, at the root of the server."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{still.port}") as client:
        yield client


def unlike(response: httpx2.Response, expected: dict[str, str]) -> Json:
    """The headers that are not as they should be."""
    found = {name: response.headers.get(name, "") for name in expected}
    return {name: value for name, value in found.items() if not re.fullmatch(expected[name], value)}


async def test_every_answer_has_the_hosted_services_headers(raw: httpx2.AsyncClient) -> None:
    assert unlike(await raw.get("/assistants"), JSON_ANSWER) == {}
    assert unlike(await raw.get("/assistants/asst_unknown"), JSON_ANSWER) == {}
    assert unlike(await raw.post("/assistants", json={}), JSON_ANSWER) == {}
    assert unlike(await raw.get("/nowhere"), JSON_ANSWER) == {}


async def test_a_stream_has_them_too(still: Running) -> None:
    async with still.http() as raw:
        assistant = await make_assistant(raw, instructions="Be brief.")
        body = {"assistant_id": assistant["id"], "stream": True}
        async with raw.stream("POST", "/threads/runs", json=body) as response:
            assert unlike(response, STREAM) == {}


async def test_each_answer_has_an_id_of_its_own(raw: httpx2.AsyncClient) -> None:
    answers = [await raw.get("/assistants") for _ in range(3)]
    assert len({response.headers["x-request-id"] for response in answers}) == 3


NO_KEYS: list[Json] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Basic dXNlcjpwYXNz"},
    {"Authorization": "sk-1234567890123456"},
    {"api-key": ""},
]
WRONG_KEYS: list[tuple[Json, str]] = [
    ({"Authorization": "Bearer sk-1234567890123456"}, "sk-********3456"),
    ({"Authorization": "bearer sk-1234567890123456"}, "sk-********3456"),
    ({"api-key": "sk-1234567890123456"}, "sk-********3456"),
    ({"Authorization": "Bearer short"}, "*****"),
    ({"Authorization": "Bearer üüü".encode("latin-1").decode("latin-1")}, "***"),
]


async def test_a_request_needs_a_key(bare: httpx2.AsyncClient) -> None:
    for headers in NO_KEYS:
        refused = await bare.get("/v1/assistants", headers=headers)
        assert answer(refused) == refusal(401, NO_KEY), headers


async def test_a_wrong_key_is_named_without_being_told(bare: httpx2.AsyncClient) -> None:
    for headers, shown in WRONG_KEYS:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        refused = await bare.get("/v1/assistants", headers=encoded)
        assert answer(refused) == refusal(
            401,
            f"Incorrect API key provided: {shown}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )


async def test_keys_come_before_everything_else(bare: httpx2.AsyncClient) -> None:
    assert answer(await bare.get("/v1/nowhere")) == refusal(401, NO_KEY)
    assert answer(await bare.post("/v1/assistants", content=b"{")) == refusal(401, NO_KEY)
    assert answer(await bare.get("/openai/threads/undefined")) == refusal(401, NO_KEY)


async def test_unknown_addresses_are_named_as_they_were_asked(raw: httpx2.AsyncClient) -> None:
    root = str(raw.base_url).removesuffix("/v1/")
    for method, path in (
        ("GET", "/v1/whatever"),
        ("POST", "/v1/assistants/asst_1/files"),
        ("GET", "/v1/assistants/"),
        ("GET", "/openai/whatever"),
        ("GET", "/v1"),
        ("GET", "/v2/assistants"),
    ):
        refused = await raw.request(method, f"{root}{path}?limit=1")
        assert answer(refused) == refusal(404, f"Invalid URL ({method} {path})")


async def test_other_methods_are_refused(raw: httpx2.AsyncClient) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        refused = await raw.request(method, "/assistants")
        assert answer(refused) == refusal(405, f"Not allowed to {method} on /v1/assistants.")


async def test_clients_without_a_beta_header_are_served(raw: httpx2.AsyncClient) -> None:
    for given in ([], [""], ["assistants="], ["assistants=v2"], ["assistants=v2", "assistants=v2"]):
        headers = [("OpenAI-Beta", value) for value in given]
        assert (await raw.get("/assistants", headers=headers)).status_code == 200


async def test_clients_of_the_first_version_are_told_so(raw: httpx2.AsyncClient) -> None:
    old = {"OpenAI-Beta": "assistants=v1"}
    refused = refusal(400, BETA_V1, code="invalid_beta")
    for path in ("/assistants", "/threads", "/threads/thread_1", "/threads/thread_1/messages"):
        assert answer(await raw.get(path, headers=old)) == refused
    assert answer(await raw.post("/assistants", headers=old, json={"model": "m"})) == refused
    assert answer(await raw.post("/threads/runs", headers=old, json={})) == refused


async def test_a_strict_server_wants_the_beta_header(strict: httpx2.AsyncClient) -> None:
    assert answer(await strict.get("/assistants")) == NO_BETA
    assert answer(await strict.get("/threads", headers={"OpenAI-Beta": "assistants="})) == NO_BETA
    given = {"OpenAI-Beta": "assistants=v2"}
    assert (await strict.get("/assistants", headers=given)).status_code == 200
    assert (await strict.get("/models")).status_code == 200


async def test_azure_clients_find_the_same_api(still: Running, bare: httpx2.AsyncClient) -> None:
    key = {"api-key": still.key}
    version = {"api-version": "2024-05-01-preview"}
    made = await bare.post(
        "/openai/assistants", headers=key, params=version, json={"model": "deployment"}
    )
    path = f"/assistants/{made.json()['id']}"
    for root in ("/openai", "/openai/v1", "/v1"):
        assert answer(await bare.get(root + path, headers=key, params=version)) == answer(made)
    both = key | {"Authorization": f"Bearer {still.key}"}
    assert (await bare.get(f"/openai{path}", headers=both)).status_code == 200


async def test_a_token_in_place_of_a_key_is_tried_first(
    still: Running, bare: httpx2.AsyncClient
) -> None:
    headers = {"Authorization": "Bearer wrong", "api-key": still.key}
    assert (await bare.get("/openai/assistants", headers=headers)).status_code == 401


async def test_operators_need_no_key_on_this_machine(bare: httpx2.AsyncClient) -> None:
    assert answer(await bare.get("/healthz")) == (200, {"status": "ok"})
    assert answer(await bare.get("/readyz")) == (200, {"status": "ok"})
    assert answer(await bare.get("/version")) == (200, {"version": __version__})
    assert (await bare.get("/openapi.json")).status_code == 200


async def test_others_need_one_for_all_but_health(still: Running) -> None:
    elsewhere = httpx2.ASGITransport(still.check, client=("203.0.113.7", 1))
    async with httpx2.AsyncClient(transport=elsewhere, base_url="http://server") as client:
        for path in ("/version", "/openapi.json", "/docs", "/metrics", "/nowhere"):
            assert answer(await client.get(path)) == refusal(401, NO_KEY)
        key = {"Authorization": f"Bearer {still.key}"}
        assert (await client.get("/version", headers=key)).status_code == 200
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200


async def test_the_content_type_of_a_request_does_not_matter(raw: httpx2.AsyncClient) -> None:
    for kind in ("text/plain", "application/json; charset=utf-8", "multipart/form-data", ""):
        made = await raw.post(
            "/assistants", content=b'{"model": "m"}', headers={"content-type": kind}
        )
        assert made.json()["model"] == "m"
    assert (await raw.get("/assistants", headers={"content-type": "application/json"})).is_success


async def test_chunked_bodies_are_read(raw: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b'{"mod'
        yield b'el": "m"}'

    made = await raw.post("/assistants", content=pieces())
    assert made.json()["model"] == "m"


async def test_answers_do_not_depend_on_accept(raw: httpx2.AsyncClient) -> None:
    response = await raw.get("/assistants", headers={"accept": "text/html"})
    assert response.headers["content-type"] == "application/json"
    assert await get(raw, "/assistants") == response.json()
    assert (await post(raw, "/threads"))["object"] == "thread"
