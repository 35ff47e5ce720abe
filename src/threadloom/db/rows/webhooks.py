"""Endpoints of webhooks, and what is delivered to them."""

from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from threadloom.db.columns import Json
from threadloom.db.rows.base import (
    NEVER_AGAIN,
    Leased,
    Owned,
    Row,
    index_where,
    index_where_set,
)
from threadloom.types.webhooks import DeliveryStatus, EndpointStatus

IS_DUE = text("due_at IS NOT NULL")


class WebhookEndpointRow(Owned, Row):
    """Where a project is told of what happens. Its secrets sign, so they are kept as they are.

    `old_secret` signs too until `old_secret_until`.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "project_id", "seq"), NEVER_AGAIN)
    noun = "webhook endpoint"

    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(Json(list[str]))
    status: Mapped[EndpointStatus] = mapped_column(Text)
    updated_at: Mapped[int]
    signing_secret: Mapped[str]
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[int | None]


class WebhookDeliveryRow(Leased, Row):
    """One event on its way to one endpoint, and the log of it. It is pending as long as it is due.

    Those of one `subject` go out in their order. No row refers to this table, and it to none but its project: a run's transaction is
    not to wait for an endpoint.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "endpoint_id", "seq"),
        index_where(IS_DUE, "endpoint_id", "subject", "seq"),
        index_where(IS_DUE, "due_at", "endpoint_id"),
        index_where_set("ended_at"),
        NEVER_AGAIN,
    )
    noun = "webhook delivery"

    endpoint_id: Mapped[str]
    event_id: Mapped[str]
    type: Mapped[str]
    subject: Mapped[str]
    payload: Mapped[str]
    status: Mapped[DeliveryStatus] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    response_status: Mapped[int | None]
    error: Mapped[str | None]
    ended_at: Mapped[int | None]
