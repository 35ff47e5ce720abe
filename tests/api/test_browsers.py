"""Programs in browsers, which ask before they send a key to another origin."""

import httpx2

from tests.api.wire import answer, make_assistant, refusal
from tests.support.server import Running
from threadloom.api.edge import NO_KEY

ORIGIN = {"Origin": "http://localhost:3000"}
SENT = "authorization,content-type,openai-beta,x-stainless-os"
ASKING = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": SENT,
}
ALLOWED = "access-control-allow-origin"


def at_root(running: Running) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{running.port}")


async def test_a_browser_may_ask_before_it_sends_a_key(still: Running) -> None:
    async with at_root(still) as bare:
        for path in ("/v1/threads", "/v1/files/file-1/content", "/openai/threads"):
            allowed = await bare.options(path, headers=ASKING)
            assert (allowed.status_code, allowed.content) == (204, b"")
            assert allowed.headers[ALLOWED] == "*"
            assert allowed.headers["access-control-allow-methods"] == "GET, POST, DELETE"
            assert allowed.headers["access-control-allow-headers"] == SENT
            assert allowed.headers["x-request-id"].startswith("req_")


async def test_a_browser_reads_answers_refusals_and_streams(still: Running) -> None:
    async with at_root(still) as bare, still.http() as raw:
        refused = await bare.get("/v1/assistants", headers=ORIGIN)
        assert answer(refused) == refusal(401, NO_KEY)
        listed = await raw.get("/assistants", headers=ORIGIN)
        body = {"assistant_id": (await make_assistant(raw))["id"], "stream": True}
        async with raw.stream("POST", "/threads/runs", json=body, headers=ORIGIN) as stream:
            for response in (refused, listed, stream):
                assert response.headers[ALLOWED] == "*"
                assert response.headers["access-control-expose-headers"] == "*"


async def test_pages_of_others_read_nothing_that_needs_no_key(still: Running) -> None:
    async with at_root(still) as bare:
        for path in ("/version", "/metrics", "/openapi.json", "/healthz"):
            asked = await bare.options(path, headers=ASKING)
            for response in (asked, await bare.get(path, headers=ORIGIN)):
                assert not [name for name in response.headers if name.startswith("access-control")]


async def test_other_programs_see_nothing_of_it(raw: httpx2.AsyncClient) -> None:
    assert ALLOWED not in (await raw.get("/assistants")).headers
    refused = await raw.options("/assistants")
    assert answer(refused) == refusal(405, "Not allowed to OPTIONS on /v1/assistants.")
