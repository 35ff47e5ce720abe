"""What happens to webhook endpoints and in their logs, one transaction each; and a sample for an endpoint."""

import base64
import secrets

import httpx2
from sqlalchemy import func, select

from threadloom.clock import Clock
from threadloom.config import Outbound, Settings
from threadloom.db.rows import WebhookDeliveryRow, WebhookEndpointRow
from threadloom.db.tx import PageQuery, ProjectTx, Rows
from threadloom.errors import InvalidRequest
from threadloom.ids import Ids
from threadloom.outbound import AddressRefused, Guard, guarded_client
from threadloom.outbox import DELIVERIES, payload
from threadloom.types.webhooks import (
    DeliveryStatus,
    EventType,
    WebhookEndpointCreate,
    WebhookEndpointModify,
)
from threadloom.webhooks.delivery import letter_to
from threadloom.webhooks.sending import Reply, send

SECRET_BYTES = 32
OLD_SECRET_LIVES = 86_400
"""Seconds that a rotated secret goes on signing, when it is asked for."""


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def refuse_address(url: str, outbound: Outbound) -> None:
    """What can be said of an address before it is called; each delivery looks again. Raises InvalidRequest."""
    guard = Guard(outbound)
    try:
        guard.check_url(url)
        parsed = httpx2.URL(url)
    except AddressRefused as refused:
        raise InvalidRequest(str(refused), param="url", code="invalid_value") from None
    if parsed.scheme == "http" and not guard.is_named(parsed.host):
        raise InvalidRequest(
            "Webhooks are sent to https addresses. With http only hosts and networks are called that the server's "
            "`outbound.allow` names.",
            param="url",
            code="invalid_value",
        )


def create_endpoint(
    tx: ProjectTx, body: WebhookEndpointCreate, outbound: Outbound, *, most: int
) -> WebhookEndpointRow:
    """A new endpoint; it is told of what happens from now on."""
    refuse_address(body.url, outbound)
    of_project = WebhookEndpointRow.project_id == tx.project_id
    if (tx.session.scalar(select(func.count()).where(of_project)) or 0) >= most:
        raise InvalidRequest(f"A project may have {most} webhook endpoints.")
    endpoint = WebhookEndpointRow(
        id=tx.ids.new("whe_"),
        project_id=tx.project_id,
        created_at=tx.now,
        updated_at=tx.now,
        name=body.name,
        url=body.url,
        event_types=list(dict.fromkeys(body.event_types)),
        status="enabled",
        signing_secret=new_secret(),
    )
    tx.session.add(endpoint)
    tx.session.flush()
    return endpoint


def modify_endpoint(
    tx: ProjectTx, endpoint_id: str, body: WebhookEndpointModify, outbound: Outbound
) -> WebhookEndpointRow:
    """Change the given keys only. What is pending goes to the new address; of a disabled endpoint it fails."""
    endpoint = tx.get(WebhookEndpointRow, endpoint_id, lock=True)
    if body.url is not None:
        refuse_address(body.url, outbound)
    before = (endpoint.name, endpoint.url, endpoint.event_types, endpoint.status)
    endpoint.name = body.name or endpoint.name
    endpoint.url = body.url or endpoint.url
    endpoint.status = body.status or endpoint.status
    if body.event_types is not None:
        endpoint.event_types = list(dict.fromkeys(body.event_types))
    if before != (endpoint.name, endpoint.url, endpoint.event_types, endpoint.status):
        endpoint.updated_at = tx.now
    return endpoint


def delete_endpoint(tx: ProjectTx, endpoint_id: str) -> None:
    """Its log goes with it, by and by."""
    tx.delete(tx.get(WebhookEndpointRow, endpoint_id, lock=True))


def rotate_secret(tx: ProjectTx, endpoint_id: str, *, keep_old: bool) -> WebhookEndpointRow:
    """A new secret; the old one signs too for another day, if it is asked for."""
    endpoint = tx.get(WebhookEndpointRow, endpoint_id, lock=True)
    endpoint.old_secret = endpoint.signing_secret if keep_old else None
    endpoint.old_secret_until = tx.now + OLD_SECRET_LIVES if keep_old else None
    endpoint.signing_secret = new_secret()
    endpoint.updated_at = tx.now
    return endpoint


async def send_sample(
    endpoint: WebhookEndpointRow,
    event_type: EventType,
    settings: Settings,
    *,
    clock: Clock,
    ids: Ids,
) -> Reply:
    """Send an event of an object that does not exist, at once."""
    now, event_id, timeout = clock.now(), ids.new("evt_"), settings.webhooks.timeout
    sample = payload(event_id, event_type, int(now), sample_of(event_type))
    letter = letter_to(endpoint, event_id, sample, now)
    async with guarded_client(settings.outbound, timeout=timeout) as client:
        return await send(client, letter, now=now, timeout=timeout)


def sample_of(event_type: EventType) -> dict[str, str]:
    if event_type.startswith("thread.run.step."):
        return {"id": "step_test", "run_id": "run_test", "thread_id": "thread_test"}
    if event_type.startswith("thread.run."):
        return {"id": "run_test", "thread_id": "thread_test"}
    batch = event_type.startswith("vector_store.file_batch.")
    return {"id": "vsfb_test" if batch else "file-test", "vector_store_id": "vs_test"}


def page_deliveries(
    tx: ProjectTx, endpoint_id: str, query: PageQuery, status: DeliveryStatus | None
) -> Rows:
    """A page of an endpoint's log. Raises NotFound."""
    tx.show(WebhookEndpointRow, endpoint_id)
    conditions = [] if status is None else [WebhookDeliveryRow.status == status]
    return tx.page(WebhookDeliveryRow, query, *conditions, endpoint_id=endpoint_id)


def replay_delivery(tx: ProjectTx, endpoint_id: str, delivery_id: str) -> WebhookDeliveryRow:
    """Send the event of a delivery that has ended once more, with the same id. Raises NotFound."""
    endpoint = tx.get(WebhookEndpointRow, endpoint_id)
    old = tx.get(WebhookDeliveryRow, delivery_id)
    if old.endpoint_id != endpoint_id:
        raise tx.missing(WebhookDeliveryRow, delivery_id)
    if old.status == "pending":
        raise InvalidRequest(f"Webhook delivery '{delivery_id}' is still pending.")
    if endpoint.status != "enabled":
        raise InvalidRequest(f"Webhook endpoint '{endpoint_id}' is disabled.")
    again = WebhookDeliveryRow(
        id=tx.ids.new("whd_"),
        project_id=tx.project_id,
        created_at=tx.now,
        endpoint_id=endpoint_id,
        event_id=old.event_id,
        type=old.type,
        subject=old.subject,
        payload=old.payload,
        status="pending",
        due_at=tx.clock.now(),
    )
    tx.session.add(again)
    tx.session.flush()
    tx.wake(DELIVERIES)
    return again
