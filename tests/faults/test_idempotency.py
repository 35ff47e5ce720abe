"""`kill -9` between the commit and the answer: what is sent again is not done again."""

import asyncio
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.faults.processes import KEY, Fleet, Server, until
from threadloom.testing.upstream import Upstream

Json = dict[str, Any]
DIES = {"THREADLOOM_FAULT": "idempotency.committed:1:kill"}
MESSAGE = {"role": "user", "content": "[[text:Hello there]]"}


def client_of(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=20,
    )


async def killed_in(server: Server, path: str, sent: Json) -> None:
    """Send a request that the server does not survive."""
    server.start(DIES)
    await server.ready()
    async with client_of(server) as http:
        with pytest.raises(httpx2.TransportError):
            await http.post(path, **sent)
    assert await server.ended(within=20) == -9


async def listed(http: httpx2.AsyncClient, path: str) -> list[Json]:
    objects: list[Json] = (await http.get(path)).json()["data"]
    return objects


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(lasting_fleet: Fleet) -> tuple[Server, Server]:
    """One that stays, and one that is there when a test wants it."""
    stays, other = lasting_fleet.serve(), lasting_fleet.serve(with_worker=False)
    other.kill()
    await stays.ready()
    return stays, other


async def test_a_run_is_created_once(pair: tuple[Server, Server], scripted: Upstream) -> None:
    stays, doomed = pair
    async with client_of(stays) as http:
        assistant = (await http.post("/assistants", json={"model": "m"})).json()
        threads = await listed(http, "/threads")
        body = {"assistant_id": assistant["id"], "thread": {"messages": [MESSAGE]}}
        sent: Json = {"json": body, "headers": {"Idempotency-Key": "run"}}
        await killed_in(doomed, "/threads/runs", sent)
        # They find the request in the hands of the dead until its lease runs out.
        answers = await asyncio.gather(*(http.post("/threads/runs", **sent) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["idempotent-replayed"] for answer in answers} == {"true"}
        assert len({answer.content for answer in answers}) == 1
        assert len(await listed(http, "/threads")) == len(threads) + 1

        async def is_completed() -> bool:
            (run,) = await listed(http, "/runs")
            return run["status"] == "completed"

        await until(is_completed, "the run is completed")
        assert scripted.calls["[[text:Hello there]]"] == 1


async def test_a_file_is_stored_once(pair: tuple[Server, Server]) -> None:
    stays, doomed = pair
    sent: Json = {
        "files": {"file": b"Some text."},
        "data": {"purpose": "assistants"},
        "headers": {"Idempotency-Key": "file"},
    }
    await killed_in(doomed, "/files", sent)
    async with client_of(stays) as http:
        (file,) = await listed(http, "/files")
        assert (await http.post("/files", **sent)).json() == file
        assert await listed(http, "/files") == [file]


@pytest.mark.parametrize("lasting_fleet", ["postgresql"], indirect=True)
async def test_duplicates_arrive_at_two_processes(pair: tuple[Server, Server]) -> None:
    stays, other = pair
    other.start()
    await other.ready()
    async with client_of(stays) as one, client_of(other) as two:
        threads = await listed(two, "/threads")
        headers = {"Idempotency-Key": "thread"}
        answers = await asyncio.gather(
            *(http.post("/threads", json={}, headers=headers) for http in (one, two) * 25)
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len(await listed(two, "/threads")) == len(threads) + 1
    other.kill()
