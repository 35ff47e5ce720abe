"""A flood: what is refused, how, and what never is."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import orjson
import pytest
from openai import AsyncOpenAI, InternalServerError
from sqlalchemy import func, select

from tests.api.wire import get, make_assistant, make_run, make_thread, post
from tests.faults.processes import until
from tests.support.server import Running, running_server
from threadloom.api import gate
from threadloom.db.lane import VISITOR
from threadloom.db.rows import ThreadRow
from threadloom.db.tx import Tx
from threadloom.errors import Overloaded
from threadloom.llm.chat import ModelDescription
from threadloom.testing import ScriptedModel, ScriptedModels

WRITERS = 4
"""Threads that write, at most."""
BUSY = "The server is currently overloaded with other requests. Please try again in a moment."


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine takes longer to begin a transaction than a request may wait in a crowd."""
    monkeypatch.setattr(gate, "PATIENCE", 20.0)


@pytest.fixture
async def narrow(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """A server that works on three requests at once, for four clients."""
    settings = {"server": {"port": 0, "max_requests": 3, "max_connections": 4}}
    async with running_server(database_url, ScriptedModels(model), settings=settings) as running:
        running.check.expected_statuses = {503}
        yield running


@asynccontextmanager
async def no_writes(server: Running) -> AsyncGenerator[None]:
    """Nothing is written while the block runs."""
    begun, end = threading.Event(), threading.Event()

    def hold(_: Tx) -> bool:
        begun.set()
        return end.wait(20)

    holding: Sequence[asyncio.Task[bool]] = [
        asyncio.create_task(server.database.write(hold)) for _ in range(WRITERS)
    ]
    await until(begun.is_set, "the writer is busy")  # or SQLite's takes what comes next along
    try:
        yield
    finally:
        end.set()
        await asyncio.gather(*holding)


@asynccontextmanager
async def waiting(server: Running, number: int) -> AsyncGenerator[list[httpx2.Response]]:
    """So many requests wait while the block runs; their answers are there after it."""
    answers: list[httpx2.Response] = []
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.http()) for _ in range(number)]
        await clients[0].get("/assistants")  # from here on the key is known
        tasks: list[asyncio.Task[httpx2.Response]] = []
        async with no_writes(server):
            tasks += [asyncio.create_task(one.post("/threads", json={})) for one in clients]
            await until(lambda: server.context.gate.active == number, "they wait")
            yield answers
        answers += await asyncio.gather(*tasks)


def threads(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(ThreadRow)) or 0


async def test_who_comes_when_all_places_are_taken_is_refused_and_told_when_to_come_back(
    narrow: Running,
) -> None:
    async with narrow.http() as raw:
        async with waiting(narrow, 3) as answers:
            refused = await raw.get("/assistants")
            assert refused.status_code == 503
            assert refused.json()["error"] == {
                "message": BUSY,
                "type": "server_error",
                "param": None,
                "code": None,
            }
            assert refused.headers["retry-after"] == "2"
            assert 1000 <= int(refused.headers["retry-after-ms"]) <= 2000
            assert refused.headers["x-request-id"].startswith("req_")
        assert {one.status_code for one in answers} <= {200, 503}
        assert (await get(raw, "/assistants"))["data"] == []
        assert narrow.context.gate.active == 0


async def test_those_who_are_refused_together_come_back_one_after_the_other(
    narrow: Running,
) -> None:
    async with narrow.http() as raw, waiting(narrow, 3):
        answers = [await raw.get("/assistants") for _ in range(8)]
        assert len({one.headers["retry-after-ms"] for one in answers}) == 8


async def test_the_sdk_comes_back_by_itself(narrow: Running) -> None:
    async with AsyncOpenAI(base_url=narrow.base_url, api_key=narrow.key) as client:
        async with waiting(narrow, 3):
            with pytest.raises(InternalServerError):
                await client.with_options(max_retries=0).beta.threads.create()
            later = asyncio.create_task(client.beta.threads.create())
            await asyncio.sleep(0.1)
        assert (await later).object == "thread"


async def test_health_is_told_whatever_happens(narrow: Running) -> None:
    async with narrow.http() as raw, waiting(narrow, 3):
        answer = await raw.get(f"http://127.0.0.1:{narrow.port}/healthz")
        assert answer.json() == {"status": "ok"}


async def test_a_large_body_is_read_before_it_is_refused(narrow: Running) -> None:
    async with narrow.http() as raw, waiting(narrow, 3):
        body = {"messages": [{"role": "user", "content": "x" * 1_000_000}]}
        refused = await raw.post("/threads", json=body)
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == BUSY
        assert "retry-after" in refused.headers


async def test_open_streams_take_no_place(narrow: Running, model: ScriptedModel) -> None:
    end = asyncio.Event()
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(narrow.http())
        assistant = await make_assistant(raw, instructions="Be brief.")
        body = {"assistant_id": assistant["id"], "stream": True}
        for _ in range(2):
            model.waits(end, "Hello")
            client = await stack.enter_async_context(narrow.http())
            stream = client.stream("POST", "/threads/runs", json=body)
            answer = await stack.enter_async_context(stream)
            assert answer.status_code == 200
        assert narrow.context.gate.active == 0
        assert (await make_thread(raw))["object"] == "thread"
        end.set()


async def test_who_waits_too_long_in_a_crowd_is_refused_and_nothing_is_written(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.1)
    models = ScriptedModels(ScriptedModel())
    async with running_server(database_url, models, with_worker=False) as server:
        server.check.expected_statuses = {503}
        async with waiting(server, 2) as answers:
            server.context.gate.refusal()
            await asyncio.sleep(0.5)  # until both have come to the database, and longer
        assert [one.status_code for one in answers] == [503, 503]
        assert all("retry-after" in one.headers for one in answers)
        assert await server.database.read(threads) == 0


@pytest.fixture
async def wide(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Running]:
    """A server for bursts of twenty, whose time for crowds goes on when `pass_time` says so."""
    monkeypatch.setattr(gate, "PERIOD", 60.0)
    monkeypatch.setattr(gate, "SILENCE", 600.0)
    models = ScriptedModels(ScriptedModel())
    settings = {"server": {"port": 0, "max_requests": 20}}
    async with running_server(
        database_url, models, settings=settings, with_worker=False
    ) as running:
        running.check.expected_statuses = {503}
        yield running


def pass_time(server: Running, seconds: float = 60.0) -> None:
    crowd = server.context.gate.crowd
    assert crowd is not None
    crowd.since -= seconds


def refuse(server: Running, times: int) -> None:
    for _ in range(times):
        server.context.gate.refusal()


async def places(server: Running) -> int:
    """How many of a burst of ten are let in while nothing is written."""
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(server.http()) for _ in range(9)]
        async with waiting(server, 1):
            burst = [asyncio.create_task(one.post("/threads", json={})) for one in others]
            await until(lambda: answered_or_inside(server, burst), "they are let in or refused")
            let_in = 1 + sum(not one.done() for one in burst)
        await asyncio.gather(*burst)
        return let_in


def answered_or_inside(server: Running, burst: Sequence[asyncio.Task[httpx2.Response]]) -> bool:
    return server.context.gate.active == 1 + sum(not one.done() for one in burst)


async def test_one_at_a_time_waits_in_a_crowd(wide: Running) -> None:
    refuse(wide, 1)
    assert await places(wide) == 1


async def test_a_crowd_is_over_once_what_comes_fits(wide: Running) -> None:
    """A refusal now and then, as when two meet, does not keep it up."""
    async with wide.http() as raw:
        await get(raw, "/assistants")  # from here on the key is known
        refuse(wide, 1)
        await get(raw, "/assistants")
        pass_time(wide)
        assert await places(wide) == 4
        for _ in range(30):  # five in six have to be let in by now
            await get(raw, "/assistants")
        pass_time(wide)
        await get(raw, "/assistants")
        pass_time(wide)
        assert await places(wide) == 10
        assert wide.context.gate.crowd is None


async def test_a_crowd_goes_on_while_many_are_refused(wide: Running) -> None:
    async with wide.http() as raw:
        await get(raw, "/assistants")
        refuse(wide, 2)
        await get(raw, "/assistants")
        pass_time(wide)
        assert await places(wide) == 1
        refuse(wide, 40)
        pass_time(wide)
        assert await places(wide) == 1


async def test_a_crowd_of_which_nothing_was_heard_for_long_is_over(wide: Running) -> None:
    refuse(wide, 40)
    pass_time(wide, 600)
    assert await places(wide) == 10


@pytest.mark.parametrize("has_key", [True, False], ids=["a client", "anybody"])
async def test_who_sends_slowly_keeps_nobody_out_of_a_crowd(narrow: Running, has_key: bool) -> None:
    key = narrow.key if has_key else "sk-none"
    request = f"POST /v1/threads HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 100000\r\n\r\n{{"
    async with narrow.http() as raw:
        await get(raw, "/assistants")
        reader, writer = await asyncio.open_connection("127.0.0.1", narrow.port)
        writer.write(request.encode())
        if has_key:
            await until(lambda: narrow.context.gate.active == 1, "it is let in")
        else:
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        narrow.context.gate.refusal()
        narrow.check.expected_statuses = {401, 503}
        assert (await raw.post("/threads", json={})).status_code == 200
        assert narrow.context.gate.active == int(has_key)
        writer.close()


async def test_who_asks_for_models_keeps_nobody_out_of_a_crowd(
    wide: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Providers may take seconds to tell."""
    asked, told = asyncio.Event(), asyncio.Event()

    async def available(_: ScriptedModels) -> list[ModelDescription]:
        asked.set()
        await told.wait()
        return []

    monkeypatch.setattr(ScriptedModels, "available", available)
    async with wide.http() as raw, wide.http() as other:
        asking = asyncio.create_task(raw.get("/models"))
        await asked.wait()
        refuse(wide, 1)
        await get(other, "/assistants")
        told.set()
        assert (await asking).status_code == 200


async def test_runs_go_on_in_a_crowd(narrow: Running, model: ScriptedModel) -> None:
    model.says("Hello")
    async with narrow.http() as raw:
        run = await make_run(raw)
        narrow.context.gate.refusal()
        events = await raw.get(f"/threads/{run['thread_id']}/runs/{run['id']}/events")
        assert "event: thread.run.completed" in events.text


async def test_work_behind_the_api_is_never_refused(narrow: Running) -> None:
    """The lanes refuse visitors only; a worker's task has none."""

    class Unwelcome:
        def queued(self) -> None: ...
        def served(self) -> None: ...
        def refusal(self, waited: float) -> Overloaded | None:
            return Overloaded()

    assert await narrow.database.read(threads) == 0
    token = VISITOR.set(Unwelcome())
    with pytest.raises(Overloaded):
        await narrow.database.read(threads)
    VISITOR.reset(token)
    assert await narrow.database.read(threads) == 0


async def test_connections_beyond_the_bound_get_a_refusal_and_health(narrow: Running) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", narrow.port)
            stack.callback(writer.close)
        async with narrow.http() as raw:
            health = await raw.get(f"http://127.0.0.1:{narrow.port}/healthz")
            assert health.json() == {"status": "ok"}
            refused = await raw.get("/assistants")
            assert refused.status_code == 503
            assert refused.json()["error"]["message"] == "The server has too many open connections."
            assert refused.headers["connection"] == "close"
            assert "retry-after" in refused.headers


async def test_far_too_many_connections_are_not_even_answered(narrow: Running) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", narrow.port)
            stack.callback(writer.close)
        reader, writer = await asyncio.open_connection("127.0.0.1", narrow.port)
        stack.callback(writer.close)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_requests_in_one_piece_are_answered_in_order_in_a_flood(narrow: Running) -> None:
    request = (
        f"GET /v1/assistants HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {narrow.key}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", narrow.port)
    async with waiting(narrow, 3):
        writer.write(request.encode() * 3)
        for _ in range(3):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 503 ")
            length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
            assert orjson.loads(await reader.readexactly(length))["error"]["message"] == BUSY
    writer.close()


async def test_a_burst_that_fits_waits_its_turn(database_url: str) -> None:
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, with_worker=False) as server,
        server.http() as raw,
    ):
        made = await asyncio.gather(*(post(raw, "/threads") for _ in range(50)))
        assert len({one["id"] for one in made}) == 50
