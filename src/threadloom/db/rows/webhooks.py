"""Endpoints of webhooks, and what is delivered to them."""

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from threadloom.db.columns import Json
from threadloom.db.rows.base import NEVER_AGAIN, Leased, Owned, Row, index_where_set
from threadloom.types.webhooks import DeliveryStatus, EndpointStatus


class WebhookEndpointRow(Owned, Row):
    """Where a project is told of what happens. The secret signs, so it is kept as it is."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "project_id", "seq"), NEVER_AGAIN)
    noun = "webhook endpoint"

    name: Mapped[str | None]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(Json(list[str]))
    status: Mapped[EndpointStatus] = mapped_column(Text)
    secret: Mapped[str]


class WebhookDeliveryRow(Leased, Row):
    """One event on its way to one endpoint, and the log of it. Those of one `subject` go out in their order."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "endpoint_id", "subject", "seq"),
        Index(None, "project_id", "seq"),
        index_where_set("due_at"),
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
