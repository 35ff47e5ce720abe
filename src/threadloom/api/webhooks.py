"""Webhook endpoints, as newer SDKs of the hosted service manage them (`client.webhooks`), and the logs of their deliveries."""

from typing import Annotated

from fastapi import APIRouter, Query

from threadloom.api.context import Db, Listing, Server, page_of
from threadloom.api.route import JsonRoute
from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import WebhookEndpointRow
from threadloom.db.tx import ProjectTx
from threadloom.errors import InvalidRequest
from threadloom.outbox import look_again
from threadloom.types.shared import Deleted, Page, id_of
from threadloom.types.webhooks import (
    EVENT_TYPES,
    DeliveryStatus,
    SecretRotation,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointCreate,
    WebhookEndpointModify,
    WebhookEndpointWithSecret,
    WebhookEventTypeList,
    WebhookTest,
    WebhookTestResult,
)
from threadloom.webhooks import endpoints

router = APIRouter(prefix="/v1", tags=["Threadloom's own"], route_class=JsonRoute)
EndpointId = Annotated[str, id_of("whe")]
DeliveryId = Annotated[str, id_of("whd")]
StatusFilter = Annotated[DeliveryStatus | None, Query(alias="status")]


@router.get("/webhook_event_types")
async def list_webhook_event_types() -> WebhookEventTypeList:
    return WebhookEventTypeList(data=list(EVENT_TYPES))


@router.post("/webhook_endpoints")
async def create_webhook_endpoint(
    body: WebhookEndpointCreate, db: Db, server: Server
) -> WebhookEndpointWithSecret:
    settings = server.settings
    most = settings.webhooks.max_endpoints
    made = await db.write(endpoints.create_endpoint, body, settings.outbound, most=most)
    look_again(server.database.engine)
    return WebhookEndpointWithSecret.model_validate(made)


@router.get("/webhook_endpoints")
async def list_webhook_endpoints(query: Listing, db: Db) -> Page[WebhookEndpoint]:
    return page_of(WebhookEndpoint, await db.read(ProjectTx.page, WebhookEndpointRow, query))


@router.get("/webhook_endpoints/{webhook_endpoint_id}")
async def retrieve_webhook_endpoint(webhook_endpoint_id: EndpointId, db: Db) -> WebhookEndpoint:
    return WebhookEndpoint.model_validate(await found(db, webhook_endpoint_id))


@router.post("/webhook_endpoints/{webhook_endpoint_id}")
async def modify_webhook_endpoint(
    webhook_endpoint_id: EndpointId, body: WebhookEndpointModify, db: Db, server: Server
) -> WebhookEndpoint:
    outbound = server.settings.outbound
    row = await db.write(endpoints.modify_endpoint, webhook_endpoint_id, body, outbound)
    look_again(server.database.engine)
    return WebhookEndpoint.model_validate(row)


@router.delete("/webhook_endpoints/{webhook_endpoint_id}")
async def delete_webhook_endpoint(
    webhook_endpoint_id: EndpointId, db: Db, server: Server
) -> Deleted:
    await db.write(endpoints.delete_endpoint, webhook_endpoint_id)
    look_again(server.database.engine)
    return Deleted(id=webhook_endpoint_id, object="webhook_endpoint.deleted", deleted=True)


@router.post("/webhook_endpoints/{webhook_endpoint_id}/rotate_secret")
async def rotate_webhook_secret(
    webhook_endpoint_id: EndpointId, db: Db, body: SecretRotation | None = None
) -> WebhookEndpointWithSecret:
    keep_old = bool(body and body.keep_old_secret_active_for_24_hours)
    row = await db.write(endpoints.rotate_secret, webhook_endpoint_id, keep_old=keep_old)
    return WebhookEndpointWithSecret.model_validate(row)


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test")
async def test_webhook_endpoint(
    webhook_endpoint_id: EndpointId, body: WebhookTest, db: Db, server: Server
) -> WebhookTestResult:
    """Send a sample event at once, and say what the endpoint answered."""
    endpoint = await found(db, webhook_endpoint_id)
    clock, ids = server.database.clock, server.database.ids
    reply = await endpoints.send_sample(
        endpoint, body.event_type, server.settings, clock=clock, ids=ids
    )
    if reply.status is None:
        raise InvalidRequest(reply.error, code="webhook_test_failed")
    return WebhookTestResult(
        webhook_endpoint_id=webhook_endpoint_id,
        event_type=body.event_type,
        status_code=reply.status,
    )


@router.get("/webhook_endpoints/{webhook_endpoint_id}/deliveries")
async def list_webhook_deliveries(
    webhook_endpoint_id: EndpointId, query: Listing, db: Db, status: StatusFilter = None
) -> Page[WebhookDelivery]:
    rows = await db.read(endpoints.page_deliveries, webhook_endpoint_id, query, status)
    return page_of(WebhookDelivery, rows)


@router.post("/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/replay")
async def replay_webhook_delivery(
    webhook_endpoint_id: EndpointId, delivery_id: DeliveryId, db: Db
) -> WebhookDelivery:
    """Send the event of a delivery that has ended once more, with the same id."""
    row = await db.write(endpoints.replay_delivery, webhook_endpoint_id, delivery_id)
    return WebhookDelivery.model_validate(row)


async def found(db: ProjectDatabase, endpoint_id: str) -> WebhookEndpointRow:
    return await db.read(ProjectTx.get, WebhookEndpointRow, endpoint_id)
