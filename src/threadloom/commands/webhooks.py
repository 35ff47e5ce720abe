"""`threadloom webhooks`: endpoints of any project, and their logs. Secrets are made here and printed, never given."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from pydantic import ValidationError
from sqlalchemy import select

from threadloom.api.context import page_of
from threadloom.api.keys import ensure_project
from threadloom.commands.database import make_database, open_database
from threadloom.commands.projects import told
from threadloom.config import Settings
from threadloom.db.database import Database, ProjectDatabase
from threadloom.db.rows import ProjectRow, WebhookDeliveryRow, WebhookEndpointRow
from threadloom.db.tx import PageQuery, Tx
from threadloom.errors import StartError
from threadloom.types.shared import Page
from threadloom.types.webhooks import (
    EVENT_TYPES,
    EventType,
    WebhookDelivery,
    WebhookEndpointCreate,
)
from threadloom.webhooks import endpoints
from threadloom.webhooks.sending import Reply

P = ParamSpec("P")
R = TypeVar("R")
SHOWN = 20


@dataclass(frozen=True)
class Endpoint:
    """Whom a project tells of what."""

    id: str
    project: str
    name: str
    url: str
    event_types: Sequence[str]
    status: str

    @property
    def events(self) -> str:
        return "all" if set(self.event_types) == set(EVENT_TYPES) else ", ".join(self.event_types)


async def create(
    settings: Settings, *, project: str, name: str, url: str, events: Sequence[str]
) -> tuple[str, str]:
    """The id and the secret of a new endpoint; without `events` it is told of everything. Raises StartError."""
    try:
        body = WebhookEndpointCreate.model_validate(
            {"name": name, "url": url, "event_types": list(events or EVENT_TYPES)}
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise StartError(f"{wrong['input']!r} cannot be: {wrong['msg']}.") from None
    async with make_database(settings) as database:
        own = database.project(await database.write(ensure_project, project))
        most = settings.webhooks.max_endpoints
        with told():
            made = await own.write(endpoints.create_endpoint, body, settings.outbound, most=most)
    return made.id, made.signing_secret


async def show(settings: Settings) -> Sequence[Endpoint]:
    async with open_database(settings) as database:
        found = await database.read(list_endpoints)
    return [
        Endpoint(row.id, project, row.name, row.url, row.event_types, row.status)
        for row, project in found
    ]


async def delete(settings: Settings, endpoint_id: str) -> None:
    async with opened(settings, endpoint_id) as (database, _):
        with told():
            await database.write(endpoints.delete_endpoint, endpoint_id)


async def test(settings: Settings, endpoint_id: str, event_type: EventType) -> Reply:
    """What the endpoint answers to a sample event."""
    async with opened(settings, endpoint_id) as (database, endpoint):
        clock, ids = database.database.clock, database.database.ids
    return await endpoints.send_sample(endpoint, event_type, settings, clock=clock, ids=ids)


async def deliveries(settings: Settings, endpoint_id: str) -> Page[WebhookDelivery]:
    """The newest deliveries of an endpoint."""
    async with opened(settings, endpoint_id) as (database, _):
        query = PageQuery(limit=SHOWN)
        found = await database.read(endpoints.page_deliveries, endpoint_id, query, None)
    return page_of(WebhookDelivery, found)


async def replay(settings: Settings, delivery_id: str) -> str:
    """The id of the delivery that sends the event again."""
    async with open_database(settings) as database:
        found = await database.read(delivery_of, delivery_id)
        if found is None:
            raise StartError(f"There is no webhook delivery with id {delivery_id}.")
        own = database.project(found.project_id)
        with told():
            again = await own.write(endpoints.replay_delivery, found.endpoint_id, delivery_id)
    return again.id


@asynccontextmanager
async def opened(
    settings: Settings, endpoint_id: str
) -> AsyncGenerator[tuple[ProjectDatabase, WebhookEndpointRow]]:
    """The endpoint, and the database as its project sees it. Raises StartError."""
    async with open_database(settings) as database:
        endpoint = await endpoint_in(database, endpoint_id)
        yield database.project(endpoint.project_id), endpoint


async def endpoint_in(database: Database, endpoint_id: str) -> WebhookEndpointRow:
    endpoint = await database.read(endpoint_of, endpoint_id)
    if endpoint is None:
        raise StartError(f"There is no webhook endpoint with id {endpoint_id}.")
    return endpoint


def list_endpoints(tx: Tx) -> Sequence[tuple[WebhookEndpointRow, str]]:
    """All endpoints with the names of their projects."""
    statement = (
        select(WebhookEndpointRow, ProjectRow.name)
        .join(ProjectRow, ProjectRow.id == WebhookEndpointRow.project_id)
        .order_by(WebhookEndpointRow.seq)
    )
    return tx.session.execute(statement).all()


def endpoint_of(tx: Tx, endpoint_id: str) -> WebhookEndpointRow | None:
    return tx.session.scalar(select(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id))


def delivery_of(tx: Tx, delivery_id: str) -> WebhookDeliveryRow | None:
    return tx.session.scalar(select(WebhookDeliveryRow).where(WebhookDeliveryRow.id == delivery_id))
