"""A receiver that fails half of the time, and a server that is killed between: each event comes, once, in its order."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.api.stores import make_files, make_store
from tests.api.wire import Json, get, make_assistant, post
from tests.faults.conftest import fleet, on_postgres, on_sqlite, upstream
from tests.faults.processes import KEY, Fleet, until
from tests.support.receiver import Received, Receiver, failing_first
from tests.webhooks.conftest import make_endpoint

__all__ = ["fleet", "on_postgres", "on_sqlite", "upstream"]

SETTINGS = {
    "THREADLOOM_OUTBOUND__ALLOW": '["127.0.0.0/8"]',
    "THREADLOOM_WEBHOOKS__PAUSE": "100ms",
    "THREADLOOM_WEBHOOKS__TIMEOUT": "2s",
}
RUNS = 6
FILES = 4
KILLS = {"sqlite": 2, "postgresql": 1}
pytestmark = pytest.mark.timeout(300)  # a machine that runs other tests starts servers slowly
STORY = ["thread.run.queued", "thread.run.in_progress", "thread.run.completed"]


async def begin(http: httpx2.AsyncClient, assistant: str, number: int) -> str:
    text = f"[[rate:20]][[text:{number} " + "word " * 20 + "]]"
    thread = {"messages": [{"role": "user", "content": text}]}
    return (await post(http, "/threads/runs", {"assistant_id": assistant, "thread": thread}))["id"]


async def test_every_event_comes_once_and_in_order(fleet: Fleet, receiver: Receiver) -> None:
    receiver.choose = failing_first()
    server = fleet.serve(SETTINGS)
    await server.ready()
    base = f"http://127.0.0.1:{server.port}/v1"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=20) as http:
        await make_endpoint(http, receiver)
        assistant = (await make_assistant(http))["id"]
        runs = [await begin(http, assistant, number) for number in range(RUNS)]
        store, files = (await make_store(http))["id"], await make_files(http, FILES)
        batch = await post(http, f"/vector_stores/{store}/file_batches", {"file_ids": files})
        for number in range(1, KILLS[urlsplit(fleet.database_url).scheme] + 1):
            await until(
                lambda n=number: len(receiver.received) >= n * 12, "some were sent", within=60
            )
            server.kill()
            server.start()
            await server.ready()
        await until(lambda: all_ended(receiver, runs, files, batch["id"]), "all ended", within=150)
        for run in runs:
            check_run(list(first_of_each(receiver, run)))
        for file in files:
            assert receiver.types(file) == ["vector_store.file.completed"]
        assert receiver.types(batch["id"]) == ["vector_store.file_batch.completed"]
        assert receiver.forged == 0
        await nothing_follows(http, receiver)


def all_ended(receiver: Receiver, runs: list[str], files: list[str], batch: str) -> bool:
    done = {one.event["data"]["id"] for one in receiver.taken if is_end(one)}
    return done >= {*runs, *files, batch}


def is_end(one: Received) -> bool:
    return one.event["type"].endswith(".completed")


def first_of_each(receiver: Receiver, about: str) -> Iterable[Json]:
    """The events of a run, each where it was taken first."""
    once: dict[str, Json] = {}
    for one in receiver.taken:
        if one.about == about:
            once.setdefault(one.webhook_id, one.event)
    return once.values()


def check_run(events: list[Json]) -> None:
    """A killed server's run goes on with a new step; whatever there is has its beginning before its end."""
    assert [one["type"] for one in events if "run_id" not in one["data"]] == STORY
    steps: defaultdict[str, list[str]] = defaultdict(list)
    for one in events[2:-1]:
        steps[one["data"]["id"]].append(one["type"].removeprefix("thread.run.step."))
    assert list(steps.values())[-1] == ["created", "in_progress", "completed"]
    for lost in list(steps.values())[:-1]:
        assert lost == ["created", "in_progress", "failed"]


async def nothing_follows(http: httpx2.AsyncClient, receiver: Receiver) -> None:
    """The log says that all is over, and it is."""
    (endpoint,) = (await get(http, "/webhook_endpoints"))["data"]
    path = f"/webhook_endpoints/{endpoint['id']}/deliveries"

    async def over() -> bool:
        return (await get(http, path, status="pending"))["data"] == []

    await until(over, "nothing is pending")
    before = len(receiver.received)
    await asyncio.sleep(0.3)
    assert len(receiver.received) == before
