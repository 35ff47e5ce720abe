"""Endpoints, as the SDK manages them."""

from typing import Any, cast

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.api.wire import answer, get, post, refusal, succeeded
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.server import Running
from tests.webhooks.conftest import make_endpoint
from threadloom.types.webhooks import EVENT_TYPES

TYPES = cast("list[Any]", ["thread.run.completed", "thread.run.failed"])  # the SDK lists its own
BODY = {"name": "Mine", "url": "https://example.com/hook", "event_types": TYPES}
ENDPOINTS = "/webhook_endpoints"


async def test_the_sdk_makes_changes_and_deletes_an_endpoint(client: AsyncOpenAI) -> None:
    made = await client.webhooks.create(
        name="Mine", url="https://example.com/hook", event_types=TYPES
    )
    assert made.object == "webhook_endpoint"
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint == f"whsec_...{made.signing_secret[-4:]}"
    assert made.event_types == TYPES
    assert made.updated_at == made.created_at
    found = await client.webhooks.retrieve(made.id)
    assert found.model_dump() == made.model_dump(exclude={"signing_secret"})
    assert [one.id async for one in client.webhooks.list(limit=1)] == [made.id]
    changed = await client.webhooks.update(made.id, name="Ours", event_types=TYPES[:1])
    assert (changed.name, changed.url, changed.event_types) == ("Ours", made.url, TYPES[:1])
    deleted = await client.webhooks.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (
        made.id,
        True,
        "webhook_endpoint.deleted",
    )
    with pytest.raises(NotFoundError):
        await client.webhooks.retrieve(made.id)
    assert (await client.webhooks.event_types.list()).data == list(EVENT_TYPES)


async def test_a_sample_is_sent_at_once(client: AsyncOpenAI, receiver: Receiver) -> None:
    made = await client.webhooks.create(name="Mine", url=receiver.url, event_types=TYPES)
    receiver.secrets.append(made.signing_secret)
    for event_type in EVENT_TYPES:
        result = await client.webhooks.test(made.id, event_type=cast("Any", event_type))
        assert (result.status_code, result.webhook_endpoint_id) == (200, made.id)
    assert receiver.types() == list(EVENT_TYPES)
    receiver.choose = lambda _: Answer(302, ("location: https://example.com",))
    result = await client.webhooks.test(made.id, event_type=TYPES[0])
    assert (result.status_code, result.event_type) == (302, TYPES[0])
    await client.webhooks.update(made.id, url="http://127.0.0.1:1/nobody")
    with pytest.raises(BadRequestError, match="No connection could be made"):
        await client.webhooks.test(made.id, event_type=TYPES[0])


async def test_a_rotated_secret_signs_at_once_and_the_old_one_as_long_as_asked_for(
    client: AsyncOpenAI, http: httpx2.AsyncClient, receiver: Receiver
) -> None:
    made = await make_endpoint(http, receiver)
    kept = await client.webhooks.rotate_secret(made["id"], keep_old_secret_active_for_24_hours=True)
    assert kept.signing_secret not in receiver.secrets
    await client.webhooks.test(made["id"], event_type=TYPES[0])
    receiver.secrets = [kept.signing_secret]
    await client.webhooks.test(made["id"], event_type=TYPES[0])
    assert (len(receiver.taken), receiver.forged) == (2, 0)
    succeeded(await http.post(f"{ENDPOINTS}/{made['id']}/rotate_secret"))
    result = await client.webhooks.test(made["id"], event_type=TYPES[0])
    assert (result.status_code, receiver.forged) == (400, 1)


async def test_a_secret_is_shown_once(http: httpx2.AsyncClient) -> None:
    made = await post(http, ENDPOINTS, BODY)
    path = f"{ENDPOINTS}/{made['id']}"
    secret = made["signing_secret"]
    for response in (
        await http.get(path),
        await http.get(ENDPOINTS),
        await http.post(path, json={"name": "Ours"}),
        await http.get(f"{path}/deliveries"),
        await http.delete(path),
    ):
        assert secret not in response.text


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com/hook", "Webhooks are sent to https addresses."),
        ("ftp://example.com/hook", "Only http and https addresses can be called."),
        ("https://me:secret@example.com/", "must not contain a user name or a password"),
        ("https://10.0.0.1/hook", "has no public address"),
        ("https://[::1]/hook", "has no public address"),
        ("https://0x0a000001/hook", "has no public address"),
        ("/hook", "Only http and https addresses can be called."),
        ("https:///hook", "names no host"),
    ],
)
async def test_addresses_that_cannot_be_called_are_refused(
    http: httpx2.AsyncClient, url: str, problem: str
) -> None:
    made = await post(http, ENDPOINTS, BODY)
    for path in (ENDPOINTS, f"{ENDPOINTS}/{made['id']}"):
        refused = await http.post(path, json=BODY | {"url": url})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert problem in error["message"]
        assert (error["param"], error["code"]) == ("url", "invalid_value")


async def test_events_that_do_not_exist_and_too_many_endpoints_are_refused(
    http: httpx2.AsyncClient,
) -> None:
    body = BODY | {"event_types": ["thread.run.sleeping"]}
    unknown = answer(await http.post(ENDPOINTS, json=body))
    assert unknown[0] == 400
    assert unknown[1]["error"]["message"].startswith("Invalid value: 'thread.run.sleeping'.")
    for _ in range(3):
        await post(http, ENDPOINTS, BODY)
    refused = answer(await http.post(ENDPOINTS, json=BODY))
    assert refused == refusal(400, "A project may have 3 webhook endpoints.")


async def test_another_project_has_no_part_in_an_endpoint(
    server: Running, http: httpx2.AsyncClient
) -> None:
    async with receiving() as theirs:
        made = await make_endpoint(http, theirs)
        async with server.http(await server.new_key("other")) as other:
            path = f"{ENDPOINTS}/{made['id']}"
            for response in (
                await other.get(path),
                await other.post(path, json={"name": "Mine"}),
                await other.delete(path),
                await other.post(f"{path}/rotate_secret", json={}),
                await other.post(f"{path}/test", json={"event_type": TYPES[0]}),
                await other.get(f"{path}/deliveries"),
                await other.post(f"{path}/deliveries/whd_1/replay"),
            ):
                assert answer(response) == refusal(
                    404, f"No webhook endpoint found with id '{made['id']}'."
                )
            assert (await get(other, ENDPOINTS))["data"] == []
        assert theirs.received == []
        shown = {key: value for key, value in made.items() if key != "signing_secret"}
        assert await get(http, f"{ENDPOINTS}/{made['id']}") == shown
