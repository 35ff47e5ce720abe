"""Bodies that are too large are refused before they are read."""

import resource
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2
import pytest

from tests.api.wire import answer, refusal
from tests.support.server import running_server
from threadloom.testing import ScriptedModel, ScriptedModels

LIMIT = 1024 * 1024
HUNDRED = 100 * LIMIT
PIECE = b"x" * 64 * 1024
TOO_LARGE = refusal(413, "The request body is too large.")


@pytest.fixture
async def small(database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server that takes bodies of 1 MB."""
    settings = {"server": {"port": 0, "max_body": LIMIT}}
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, settings=settings, with_worker=False) as running,
        running.http() as raw,
    ):
        yield raw


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // len(PIECE)):
        yield PIECE


def peak() -> int:
    """The most memory that this process, and so the server, ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_a_large_body_is_refused_unread(small: httpx2.AsyncClient) -> None:
    before = peak()
    headers = {"content-length": str(HUNDRED)}
    refused = await small.post("/assistants", content=pieces(HUNDRED), headers=headers)
    assert answer(refused) == TOO_LARGE
    assert peak() - before < 20 * LIMIT


async def test_a_large_body_of_unknown_length_is_refused_on_the_way(
    small: httpx2.AsyncClient,
) -> None:
    before = peak()
    assert answer(await small.post("/assistants", content=pieces(HUNDRED))) == TOO_LARGE
    assert peak() - before < 20 * LIMIT


async def test_the_connection_or_the_next_one_works_on(small: httpx2.AsyncClient) -> None:
    await small.post("/assistants", content=pieces(HUNDRED))
    assert (await small.get("/assistants")).status_code == 200


async def test_every_route_has_the_limit(small: httpx2.AsyncClient) -> None:
    body = b"x" * (LIMIT + 1)
    for path in ("/threads", "/threads/runs", "/threads/thread_1/messages", "/assistants/asst_1"):
        assert answer(await small.post(path, content=body)) == TOO_LARGE


async def test_a_body_of_just_the_limit_is_read(small: httpx2.AsyncClient) -> None:
    body = b'{"model": "m"}'
    made = await small.post("/assistants", content=body + b" " * (LIMIT - len(body)))
    assert made.status_code == 200
