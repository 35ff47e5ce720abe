"""Webhook endpoints, as the hosted service describes them, and their deliveries, which are Threadloom's own."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from threadloom.types.shared import Received, Sent, UnixSeconds

EventType = Literal[
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.requires_action",
    "thread.run.completed",
    "thread.run.incomplete",
    "thread.run.failed",
    "thread.run.cancelling",
    "thread.run.cancelled",
    "thread.run.expired",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.completed",
    "thread.run.step.failed",
    "thread.run.step.cancelled",
    "thread.run.step.expired",
    "vector_store.file.completed",
    "vector_store.file.failed",
    "vector_store.file.cancelled",
    "vector_store.file_batch.completed",
    "vector_store.file_batch.cancelled",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
EndpointStatus = Literal["enabled", "disabled"]
DeliveryStatus = Literal["pending", "delivered", "failed"]

EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]


def hint_of(secret: object) -> str:
    """Enough to recognise a secret by."""
    return f"whsec_...{str(secret)[-4:]}"


class WebhookEndpointCreate(Received):
    """POST /webhook_endpoints."""

    name: Name
    url: Url
    event_types: EventTypes


class WebhookEndpointModify(Received):
    """POST /webhook_endpoints/{id}: only the given keys change. `status` is Threadloom's own."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None
    status: EndpointStatus | None = None


class SecretRotation(Received):
    """POST /webhook_endpoints/{id}/rotate_secret."""

    keep_old_secret_active_for_24_hours: bool | None = None


class WebhookTest(Received):
    """POST /webhook_endpoints/{id}/test."""

    event_type: EventType


class WebhookEndpoint(Sent):
    """Where a project is told of what happens; `status` is Threadloom's own."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: UnixSeconds
    updated_at: UnixSeconds
    name: str
    url: str
    event_types: list[str]
    status: EndpointStatus
    signing_secret_hint: Annotated[str, BeforeValidator(hint_of)] = Field(
        validation_alias="signing_secret"
    )


class WebhookEndpointWithSecret(WebhookEndpoint):
    """An endpoint as it is answered when it was made, or its secret was; the secret is shown at no other time."""

    signing_secret: str


class WebhookTestResult(Sent):
    """What the endpoint answered to a sample event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: EventType
    status_code: int
    success: Literal[True] = True


class WebhookDelivery(Sent):
    """One event on its way to one endpoint. `subject` is the run, file or batch that it is about."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    created_at: UnixSeconds
    webhook_endpoint_id: str = Field(validation_alias="endpoint_id")
    event_id: str
    event_type: str = Field(validation_alias="type")
    subject: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    error: str | None
    next_attempt_at: Annotated[
        UnixSeconds | None, BeforeValidator(lambda at: None if at is None else int(at))
    ] = Field(validation_alias="due_at")
    ended_at: UnixSeconds | None


class WebhookEventTypeList(Sent):
    """What endpoints can be told of."""

    object: Literal["list"] = "list"
    data: list[EventType]
