"""`kill -9` between the commit and the answer: what is sent again is not done again."""

import asyncio
from typing import Any

import httpx2
import pytest

from tests.faults.processes import KEY, Fleet, Server, until
from threadloom.testing.upstream import Upstream

Json = dict[str, Any]
DIES = {"THREADLOOM_FAULT": "idempotency.committed:1:kill"}
AGAIN = {"Idempotency-Key": "k"}
MESSAGE = {"role": "user", "content": "[[text:Hello there]]"}


def client_of(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=20,
    )


async def killed_in(server: Server, path: str, sent: Json) -> None:
    """Send a request that the server does not survive."""
    async with client_of(server) as http:
        with pytest.raises(httpx2.TransportError):
            await http.post(path, **sent, headers=AGAIN)
    assert await server.ended(within=5) == -9


async def listed(http: httpx2.AsyncClient, path: str) -> list[Json]:
    objects: list[Json] = (await http.get(path)).json()["data"]
    return objects


@pytest.fixture
async def pair(fleet: Fleet) -> tuple[Server, Server]:
    """One that dies with its first commit, and one that stays."""
    doomed, other = fleet.serve(DIES, with_worker=False), fleet.serve()
    await asyncio.gather(doomed.ready(), other.ready())
    return doomed, other


async def test_a_run_is_created_once(pair: tuple[Server, Server], upstream: Upstream) -> None:
    doomed, other = pair
    async with client_of(other) as http:
        assistant = (await http.post("/assistants", json={"model": "m"})).json()
        sent: Json = {"assistant_id": assistant["id"], "thread": {"messages": [MESSAGE]}}
        await killed_in(doomed, "/threads/runs", {"json": sent})
        # They find the request in the hands of the dead until its lease runs out.
        answers = await asyncio.gather(
            *(http.post("/threads/runs", json=sent, headers=AGAIN) for _ in range(10))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["idempotent-replayed"] for answer in answers} == {"true"}
        assert len({answer.content for answer in answers}) == 1
        assert len(await listed(http, "/threads")) == 1

        async def is_completed() -> bool:
            (run,) = await listed(http, "/runs")
            return run["status"] == "completed"

        await until(is_completed, "the run is completed")
        assert upstream.calls["[[text:Hello there]]"] == 1


async def test_a_file_is_stored_once(pair: tuple[Server, Server]) -> None:
    doomed, other = pair
    sent: Json = {"files": {"file": b"Some text."}, "data": {"purpose": "assistants"}}
    await killed_in(doomed, "/files", sent)
    async with client_of(other) as http:
        (file,) = await listed(http, "/files")
        assert (await http.post("/files", **sent, headers=AGAIN)).json() == file
        assert await listed(http, "/files") == [file]


async def test_duplicates_arrive_at_two_processes(on_postgres: Fleet) -> None:
    servers = [on_postgres.serve(with_worker=False) for _ in range(2)]
    await asyncio.gather(*(server.ready() for server in servers))
    async with client_of(servers[0]) as one, client_of(servers[1]) as two:
        answers = await asyncio.gather(
            *(http.post("/threads", json={}, headers=AGAIN) for http in (one, two) * 25)
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len(await listed(two, "/threads")) == 1
