"""Clients that leave, and clients that do not read."""

import asyncio
import socket

import pytest
import pytest_asyncio

from tests.faults.client import Client, Started, check_told_once
from tests.faults.processes import KEY, Fleet, Server, until
from threadloom.eventlog import Event
from threadloom.events import MAX_BACKLOG, Subscription

WORDS = " ".join(f"word{number}" for number in range(40))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_fleet: Fleet) -> Server:
    server = lasting_fleet.serve()
    await server.ready()
    return server


async def test_a_run_goes_on_when_its_client_leaves(server: Server) -> None:
    async with Client(server) as client:
        body = await client.order(f"[[rate:20]][[text:{WORDS}]]")
        async with client.streaming("/threads/runs", body) as stream:
            await stream.deltas(3)
        created = next(one for one in stream.events if one.name == "thread.run.created").data
        run = Started(created["id"], created["thread_id"])
        assert (await client.run(run))["status"] == "in_progress"
        await client.reaches(run, "completed")
        await check_told_once(client, run, WORDS)


async def test_a_stuck_reader_has_a_bounded_backlog() -> None:
    """Memory shows it too late: kernel and allocator hide the first 10 MB. So the backlog itself is measured."""
    reader = Subscription()
    for number in range(1, 5 * MAX_BACKLOG):
        reader.push([Event(1, number, "thread.message.delta", "{}")])
    assert len(await reader.next_after((1, 0))) == MAX_BACKLOG


def stuck_reader(server: Server, run: Started) -> socket.socket:
    """A connection that asks for a run's events and never reads them."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    reader.connect(("127.0.0.1", server.port))
    lines = (
        f"GET /v1{run.path}/events HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Bearer {KEY}",
        "OpenAI-Beta: assistants=v2",
        "\r\n",
    )
    reader.sendall("\r\n".join(lines).encode())
    return reader


@pytest.mark.parametrize("lasting_fleet", ["sqlite"], indirect=True)
async def test_a_stuck_reader_does_not_hold_up_the_others(server: Server) -> None:
    async with Client(server) as client:
        run = await client.begin("[[delay:1]][[tokens:25000]]")
        reader = stuck_reader(server, run)
        async with client.following(run) as stream:
            await stream.end(within=40)
            assert stream.done
            assert stream.names.count("thread.message.delta") == 25_000
        slowest = max([await asked(server) for _ in range(20)])
        reader.close()
    assert slowest < 5.0


async def asked(server: Server) -> float:
    """Seconds that the server takes to say that it is well."""
    await asyncio.sleep(0)
    return await until(server._is_ready, "healthz answers")  # pyright: ignore[reportPrivateUsage]
