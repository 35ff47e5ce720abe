"""Deliveries: tried again, in order, logged; whatever an endpoint does, the others get theirs."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import httpx2
import pytest

from tests.api.wire import Json, get, post
from tests.faults.processes import until
from tests.support.receiver import Answer, Received, Receiver, failing_first, receiving
from tests.support.server import Running, running_server
from tests.webhooks.conftest import SETTINGS, make_endpoint, project_of
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.rows import WebhookDeliveryRow
from threadloom.db.tx import Tx
from threadloom.ids import RandomIds
from threadloom.outbox import announce
from threadloom.testing import ScriptedModel, ScriptedModels
from threadloom.types.webhooks import EventType
from threadloom.webhooks.delivery import Deliveries

STORY: tuple[EventType, ...] = (
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.completed",
)


def announce_run(tx: Tx, project_id: str, run: str) -> None:
    for event_type in STORY:
        announce(tx, project_id, event_type, run, {"id": run, "thread_id": "thread_1"})


async def tell(server: Running, *runs: str) -> None:
    """What runs of these ids would announce."""
    project = await project_of(server)
    for run in runs:
        await server.database.write(announce_run, project, run)


async def log_of(http: httpx2.AsyncClient, endpoint: Json, **query: str) -> list[Json]:
    """The deliveries of an endpoint, the oldest first."""
    path = f"/webhook_endpoints/{endpoint['id']}/deliveries"
    return (await get(http, path, order="asc", limit=100, **query))["data"]


async def ended(http: httpx2.AsyncClient, endpoint: Json, number: int = 1) -> list[Json]:
    """The log once so many deliveries have ended."""

    async def are() -> bool:
        return sum(one["ended_at"] is not None for one in await log_of(http, endpoint)) == number

    await until(are, f"{number} deliveries ended")
    return await log_of(http, endpoint)


async def test_each_event_comes_in_order_though_every_second_attempt_fails(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    runs = [f"run_{n}" for n in range(10)]
    receiver.choose = failing_first()
    endpoint = await make_endpoint(http, receiver)
    await tell(server, *runs)
    await until(lambda: len(receiver.taken) == 30, "all came")
    for run in runs:
        await receiver.has(*STORY, about=run)
    log = await ended(http, endpoint, 30)
    assert {one["status"] for one in log} == {"delivered"}
    assert {one["attempts"] for one in log} == {2}


async def test_two_workers_keep_the_order(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    runs = [f"run_{n}" for n in range(10)]
    receiver.choose = failing_first()
    await make_endpoint(http, receiver)
    settings = server.context.settings
    other = Database(database_url, clock=SystemClock(), ids=RandomIds())
    second = Deliveries(other, settings.webhooks, settings.outbound, lease=settings.runs.lease)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(second.run())
            await tell(server, *runs)
            await until(lambda: len(receiver.taken) == 30, "all came")
            second.drain()
    finally:
        await other.close()
    for run in runs:
        await receiver.has(*STORY, about=run)
    assert len(receiver.received) == 60


async def test_an_endpoint_that_is_gone_is_disabled(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    receiver.choose = lambda _: Answer(410)
    endpoint = await make_endpoint(http, receiver)
    await tell(server, "run_1")
    log = await ended(http, endpoint, 3)
    assert [one["status"] for one in log] == ["failed"] * 3
    assert log[0]["error"] == "The endpoint answered with status 410."
    assert {one["error"] for one in log[1:]} == {"The endpoint is disabled."}
    path = f"/webhook_endpoints/{endpoint['id']}"
    assert (await get(http, path))["status"] == "disabled"
    await tell(server, "run_2")
    assert len(await log_of(http, endpoint)) == 3
    refused = await http.post(f"{path}/deliveries/{log[0]['id']}/replay")
    assert refused.status_code == 400
    receiver.choose = lambda _: Answer()
    await post(http, path, {"status": "enabled"})
    await tell(server, "run_3")
    await receiver.has(*STORY, about="run_3")


async def test_redirects_are_not_followed(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    async with receiving() as elsewhere:
        receiver.choose = lambda _: Answer(307, (f"location: {elsewhere.url}",))
        endpoint = await make_endpoint(http, receiver, "thread.run.queued")
        await tell(server, "run_1")
        await until(lambda: receiver.received, "an attempt")

        async def logged() -> bool:
            return (await log_of(http, endpoint))[0]["attempts"] > 0

        await until(logged, "it is logged")
        (delivery,) = await log_of(http, endpoint)
        assert delivery["response_status"] == 307
        assert "redirects are not followed" in delivery["error"]
        assert elsewhere.received == []
        assert elsewhere.forged == 0


async def test_retry_after_is_obeyed(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    receiver.choose = lambda _: Answer(503, ("Retry-After: 3600",))
    endpoint = await make_endpoint(http, receiver)
    await tell(server, "run_1")

    async def put_off() -> bool:
        log = await log_of(http, endpoint)
        return log[0]["attempts"] == 1 and log[0]["next_attempt_at"] > time.time() + 3000

    await until(put_off, "the attempt is an hour off")
    assert [one["status"] for one in await log_of(http, endpoint)] == ["pending"] * 3


async def test_a_wish_of_any_length_puts_an_attempt_off_by_a_day_at_most(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    receiver.choose = lambda _: Answer(503, ("Retry-After: " + "9" * 400,))
    endpoint = await make_endpoint(http, receiver, "thread.run.queued")
    await tell(server, "run_1")

    async def logged() -> bool:
        return (await log_of(http, endpoint))[0]["attempts"] > 0

    await until(logged, "the attempt is in the log")
    (delivery,) = await log_of(http, endpoint)
    assert delivery["response_status"] == 503
    assert delivery["next_attempt_at"] <= time.time() + 86_400


async def test_a_long_body_is_not_read(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    receiver.choose = lambda _: Answer(length=10**12)
    endpoint = await make_endpoint(http, receiver)
    await tell(server, "run_1")
    log = await ended(http, endpoint, 3)
    assert [(one["status"], one["attempts"]) for one in log] == [("delivered", 1)] * 3


async def test_a_delivery_is_sent_again_with_the_same_id(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    endpoint = await make_endpoint(http, receiver, "thread.run.completed")
    await tell(server, "run_1")
    (delivery,) = await ended(http, endpoint)
    path = f"/webhook_endpoints/{endpoint['id']}/deliveries"
    again = await post(http, f"{path}/{delivery['id']}/replay")
    assert (again["status"], again["event_id"]) == ("pending", delivery["event_id"])
    await ended(http, endpoint, 2)
    one, two = receiver.taken
    assert one == two
    assert one.webhook_id == delivery["event_id"]
    assert [one["id"] for one in await log_of(http, endpoint, status="delivered")] == [
        delivery["id"],
        again["id"],
    ]
    assert await log_of(http, endpoint, status="failed") == []


async def test_what_is_pending_goes_where_its_endpoint_moved_and_ends_with_it(
    server: Running, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    receiver.choose = lambda _: Answer(500)
    endpoint = await make_endpoint(http, receiver)
    await tell(server, "run_1")
    await until(lambda: receiver.received, "an attempt")
    path = f"/webhook_endpoints/{endpoint['id']}"
    async with receiving() as elsewhere:
        elsewhere.secrets = receiver.secrets
        await post(http, path, {"url": elsewhere.url})
        await elsewhere.has(*STORY)
    receiver.choose = lambda _: Answer(500)
    await post(http, path, {"url": receiver.url})
    await tell(server, "run_2")
    await http.delete(path)

    async def forgotten() -> bool:
        return not await server.database.read(are_pending)

    await until(forgotten, "nothing is pending")


def are_pending(tx: Tx) -> bool:
    rows = tx.session.query(WebhookDeliveryRow)
    return rows.filter(WebhookDeliveryRow.due_at.is_not(None)).count() > 0


# Servers with other settings


@pytest.fixture
async def strict(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """Gives up soon, and may call public addresses only."""
    webhooks = SETTINGS["webhooks"] | {"give_up_after": 1.5, "timeout": 0.3, "keep": 1.0}
    settings = {"webhooks": webhooks, "outbound": {"allow": ["localhost"]}}
    models = ScriptedModels(model)
    async with running_server(database_url, models, settings=settings) as running:
        yield running


async def test_a_delivery_that_fails_for_long_is_given_up_and_its_next_is_tried(
    strict: Running, receiver: Receiver
) -> None:
    receiver.choose = lambda one: Answer(never=one.event["type"] == "thread.run.queued")
    async with strict.http() as http:
        body = {"name": "Test", "event_types": list(STORY)}
        url = receiver.url.replace("127.0.0.1", "localhost")
        endpoint = await post(http, "/webhook_endpoints", body | {"url": url})
        receiver.secrets.append(endpoint["signing_secret"])
        await tell(strict, "run_1")
        log = await ended(http, endpoint, 3)
        assert [one["status"] for one in log] == ["failed", "delivered", "delivered"]
        assert log[0]["error"] == "The endpoint did not answer within 0.3 s."
        assert log[0]["attempts"] > 1
        assert receiver.types() == list(STORY[1:])

        async def pruned() -> bool:
            await strict.background.sweep()
            return await log_of(http, endpoint) == []

        await until(pruned, "the log is pruned", every=0.3)


async def test_a_name_that_leads_to_a_private_address_is_not_called(
    database_url: str, receiver: Receiver, model: ScriptedModel
) -> None:
    settings = {"webhooks": SETTINGS["webhooks"] | {"give_up_after": 0.01}}
    models = ScriptedModels(model)
    async with (
        running_server(database_url, models, settings=settings) as server,
        server.http() as http,
    ):
        url = f"https://localhost:{receiver.port}/hook"
        body = {"name": "Test", "url": url, "event_types": list(STORY)}
        endpoint = await post(http, "/webhook_endpoints", body)
        await tell(server, "run_1")
        for delivery in await ended(http, endpoint, 3):
            assert delivery["error"].startswith("localhost has no public address.")
        assert receiver.connections == 0


@pytest.fixture
async def narrow(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    """Has few places for deliveries."""
    webhooks = {"timeout": 40.0, "concurrency": 4, "per_endpoint": 2}
    settings = SETTINGS | {"webhooks": webhooks}
    models = ScriptedModels(model)
    async with running_server(database_url, models, settings=settings) as running:
        yield running


async def test_an_endpoint_that_never_answers_does_not_stop_the_others(
    narrow: Running, receiver: Receiver
) -> None:
    """The silent one is told first, has more deliveries than there are places, and each takes longer than this test waits."""
    runs = [f"run_{n}" for n in range(12)]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(narrow.http())
        silent = await stack.enter_async_context(receiving())

        def never(_: Received) -> Answer:
            return Answer(never=True)

        silent.choose = never
        await make_endpoint(http, silent)
        await make_endpoint(http, receiver)
        await tell(narrow, *runs)
        await until(lambda: len(receiver.taken) == 36, "the other has all", within=30)
        assert 1 <= len(silent.received) <= 2
        silent.closed.set()
