"""A run's events as Server-Sent Events."""

import re
from collections.abc import AsyncIterator

import structlog
from fastapi import Response
from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent

from threadloom.api.answers import envelope, outage
from threadloom.api.included import ResultContent, shown_event
from threadloom.db.columns import dumps
from threadloom.errors import ApiError, InvalidRequest, Unavailable
from threadloom.eventlog import START, Cursor, Event, RunDeleted
from threadloom.events import Feed, FeedClosed

PING_EVERY = 15
SEND_TIMEOUT = 300.0
SHUTDOWN_GRACE = 5.0
EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")  # each fits into 64 bits
DONE = b"event: done\ndata: [DONE]\n\n"
log = structlog.get_logger()


class Ping(ServerSentEvent):
    """A comment that keeps proxies awake.

    No empty line follows it: the SDKs for Python keep the `id` of the last event, and take an empty line for the end of
    an event without data, which they cannot read.
    """

    def encode(self) -> bytes:
        return b": ping\n"


def stream_run(
    feed: Feed, run_id: str, included: frozenset[ResultContent], cursor: Cursor = START
) -> Response:
    """Answer with the run's events after `cursor`. A client that goes away does not stop the run."""
    return EventSourceResponse(
        encoded(feed, run_id, included, cursor),
        sep="\n",
        ping=PING_EVERY,
        ping_message_factory=Ping,
        send_timeout=SEND_TIMEOUT,
        shutdown_grace_period=SHUTDOWN_GRACE,
    )


async def encoded(
    feed: Feed, run_id: str, included: frozenset[ResultContent], cursor: Cursor
) -> AsyncIterator[bytes]:
    """Events, then `done`; or an `error` event, which SDKs raise, when the rest cannot be had here."""
    try:
        async for events in feed.follow(run_id, cursor):
            yield b"".join(encode(shown_event(event, included)) for event in events)
        yield DONE
    except FeedClosed:
        yield encode_error(
            Unavailable("The server is shutting down. The run goes on: read it again.")
        )
    except RunDeleted:
        yield encode_error(InvalidRequest("The run was deleted."))
    except SQLAlchemyError as error:
        refused = outage(error)
        if refused is None:
            log.exception("stream broke", run_id=run_id)
        yield encode_error(refused or ApiError())


def encode(event: Event) -> bytes:
    """`id` stands last, so that a client that expects two lines finds them first."""
    text = f"event: {event.name}\ndata: {event.data}\nid: {event.epoch}-{event.seq}\n\n"
    return text.encode()


def encode_error(error: ApiError) -> bytes:
    return f"event: error\ndata: {dumps(envelope(error))}\n\n".encode()


def cursor_of(event_id: str | None) -> Cursor:
    """Where a client stopped, from the `id` of the last event it saw."""
    if not event_id:
        return START
    if (place := EVENT_ID.fullmatch(event_id)) is None:
        raise InvalidRequest(
            f"Invalid 'after': '{event_id}' is not the id of an event.",
            param="after",
            code="invalid_value",
        )
    return int(place[1]), int(place[2])
