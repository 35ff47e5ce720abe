"""What happened, written down in the transaction in which it happened, for those who want to be told.

An announcement becomes one delivery for each endpoint of its project that wants it; `webhooks/` takes them there. What is rolled back was
never announced (ADR 0018).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Double, Engine, Insert, Text, bindparam, case, cast, insert, literal, select
from sqlalchemy.orm import aliased

from threadloom.db.rows import WebhookDeliveryRow, WebhookEndpointRow
from threadloom.db.tx import Tx
from threadloom.types.webhooks import EventType

DELIVERIES = "deliveries"
"""The channel that wakes workers: a delivery is due."""
BELIEVED_FOR = 1.0
"""Seconds that a process believes what it knows of endpoints: so long it may take until it notices a new one."""
NEXT_LOOK = 2.0
"""Seconds after which a new delivery that found an earlier one looks for itself: that one may have ended meanwhile, without seeing it."""
ENABLED = select(WebhookEndpointRow.project_id, WebhookEndpointRow.event_types).where(
    WebhookEndpointRow.status == "enabled"
)


@dataclass(frozen=True)
class Known:
    """The types of events that each project wants to be told of, as they were once."""

    wanted: Mapping[str, frozenset[str]]
    at: float


_known: WeakKeyDictionary[Engine, Known] = WeakKeyDictionary()


def wanted(tx: Tx) -> Mapping[str, frozenset[str]]:
    """The types of events that each project wants to be told of; nobody who has no endpoint pays for those who have one."""
    engine = tx.session.connection().engine
    known = _known.get(engine)
    now = tx.clock.now()
    if known is None or not known.at <= now < known.at + BELIEVED_FOR:
        known = _known[engine] = Known(look(tx), now)
    return known.wanted


def look(tx: Tx) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for project_id, types in tx.session.connection().execute(ENABLED):
        found[project_id] = found.get(project_id, frozenset()) | frozenset(types)
    return found


def look_again(engine: Engine) -> None:
    """Endpoints have changed: this process is to notice it at once."""
    _known.pop(engine, None)


def announce(
    tx: Tx, project_id: str, event_type: EventType, subject: str, data: Mapping[str, str]
) -> None:
    """Tell the project's endpoints that want it. Those of one `subject` are told in the order of their announcements.

    Of two transactions that announce the same subject, the second must have waited for the first: hold the subject's row.
    """
    if event_type in wanted(tx).get(project_id, ()):
        insert_deliveries(tx, project_id, event_type, subject, data)


def insert_deliveries(
    tx: Tx, project_id: str, event_type: EventType, subject: str, data: Mapping[str, str]
) -> None:
    event_id = tx.ids.new("evt_")
    now = tx.clock.now()
    tx.session.connection().execute(
        insert_statement(),
        {
            "of_project": project_id,
            "event": event_id,
            "delivery": event_id.replace("evt_", "whd_", 1),
            "of_type": event_type,
            "quoted": f'%"{event_type}"%',
            "about": subject,
            "body": payload(event_id, event_type, tx.now, data),
            "second": tx.now,
            "now": now,
            "later": now + NEXT_LOOK,
        },
    )
    tx.wake(DELIVERIES)


def payload(event_id: str, event_type: EventType, created_at: int, data: Mapping[str, str]) -> str:
    """An event as it is sent: which object to fetch, not what is in it."""
    event = {"id": event_id, "object": "event", "created_at": created_at, "type": event_type}
    return orjson.dumps(event | {"data": data}).decode()


@cache
def insert_statement() -> Insert:
    """One row for each endpoint that wants the event. It is not due yet where an earlier one of its subject is pending."""
    endpoint = WebhookEndpointRow
    earlier = aliased(WebhookDeliveryRow)
    waits = (
        select(earlier.seq)
        .where(earlier.endpoint_id == endpoint.id, earlier.subject == bindparam("about"))
        .where(earlier.due_at.is_not(None))
        .exists()
    )
    values = {
        # An event has one number in each endpoint.
        "id": bindparam("delivery", type_=Text) + cast(endpoint.seq, Text),
        "project_id": endpoint.project_id,
        "created_at": bindparam("second", type_=WebhookDeliveryRow.created_at.type),
        "endpoint_id": endpoint.id,
        "event_id": bindparam("event", type_=Text),
        "type": bindparam("of_type", type_=Text),
        "subject": bindparam("about", type_=Text),
        "payload": bindparam("body", type_=Text),
        "status": literal("pending", Text),
        "attempts": literal(0),
        "epoch": literal(0),
        "due_at": case(
            (waits, bindparam("later", type_=Double)), else_=bindparam("now", type_=Double)
        ),
    }
    chosen = (
        select(*values.values())
        .where(endpoint.project_id == bindparam("of_project"), endpoint.status == "enabled")
        .where(cast(endpoint.event_types, Text).like(bindparam("quoted")))
    )
    return insert(WebhookDeliveryRow).from_select(list(values), chosen)
