"""Wake-ups between processes: PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from threadloom.db.engine import POSTGRES_CONNECTS
from threadloom.db.signal import Signal

Psycopg = psycopg.Connection[Any]
CHANNEL = "threadloom"
LISTENER = "threadloom listener, connections: "
HEARD_WITHIN = 5.0
LOOK_EVERY = 60.0
MANY_MISSED = 60
"""Changes in a minute that nobody was told of. Some are no fault: a lease that runs out wakes nobody."""
MEND = (
    "database.direct_url must lead to PostgreSQL itself, to the database of database.url: "
    "nothing is heard through a pooler in transaction mode. Until then every process only looks each second."
)
CONNECTIONS = """
    SELECT coalesce(sum(substr(application_name, length(%(listener)s) + 1)::int)
               FILTER (WHERE starts_with(application_name, %(listener)s)), 0),
           count(*) FILTER (WHERE NOT starts_with(application_name, 'threadloom')),
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
MAX_PAYLOAD = 7900
"""Bytes; PostgreSQL refuses 8,000."""
log = structlog.get_logger()


def send(session: Session, origin: str, channels: Iterable[str]) -> None:
    """Notify the other processes when this transaction commits."""
    for payload in payloads(origin, sorted(channels)):
        session.execute(
            text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload}
        )


def payloads(origin: str, channels: Iterable[str]) -> Iterator[str]:
    """The channels, in as few payloads as they fit into."""
    payload = origin
    for channel in channels:
        if len(payload) + 1 + len(channel) > MAX_PAYLOAD:
            yield payload
            payload = origin
        payload += f" {channel}"
    yield payload


class Notifications:
    """Listens in a thread of its own and passes on what other processes say.

    Through a pooler that gives connections away between transactions nothing is ever heard, and nobody is told: so each
    listener first says something to itself, the way all other wake-ups come.
    """

    def __init__(self, url: str, direct_url: str, signal: Signal, *, connections: int) -> None:
        """`url` is where wake-ups are sent through, `direct_url` where they are heard; `connections` is what this process may open in all."""
        self.origin = secrets.token_hex(8)
        self._url = libpq(url)
        self._direct_url = libpq(direct_url)
        self._connections = connections
        self._signal = signal
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._interrupt, self._interrupted = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="db-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._interrupt.close()  # its other end is readable from now on, which ends the wait
        self._thread.join()
        self._interrupted.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except (psycopg.Error, OSError) as error:
                # Waiters look by themselves each second: a lost listener makes them slower, not wrong.
                log.warning("listener lost", error=type(error).__name__)
                self._closed.wait(1.0)

    def _listen(self) -> None:
        with connect(self._direct_url, f"{LISTENER}{self._connections}") as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            if self._url == self._direct_url:
                warn_of_few(connection)
            self._speak()
            if not self._hear(connection, HEARD_WITHIN):
                log.warning("wake-ups are not heard", mend=MEND)
            missed = self._signal.missed
            while not self._closed.is_set():
                self._hear(connection, LOOK_EVERY)
                warn_of_lost(self._signal.missed - missed)
                missed = self._signal.missed

    def _speak(self) -> None:
        with connect(self._url, "threadloom") as connection:
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self.origin))

    def _hear(self, connection: Psycopg, seconds: float) -> bool:
        """Pass on what is said within this time; True at once when it was our own."""
        until = time.monotonic() + seconds
        arriving = (
            select.poll()
        )  # select() takes no descriptors above 1,023, and clients may have those
        for source in (connection, self._interrupted):
            arriving.register(source, select.POLLIN)
        while not self._closed.is_set() and (left := until - time.monotonic()) > 0:
            arriving.poll(left * 1000)
            payloads = [one.payload for one in connection.notifies(timeout=0)]
            for payload in payloads:
                self._pass_on(payload)
            if self.origin in payloads:
                return True
        return self._closed.is_set()

    def _pass_on(self, payload: str) -> None:
        origin, *channels = payload.split(" ")
        if origin != self.origin and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._signal.notify, channels)


def libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def connect(url: str, name: str) -> Psycopg:
    # Nothing is prepared: a pooler may stand between.
    settings = make_conninfo(url, **{**POSTGRES_CONNECTS, "fallback_application_name": name})
    return psycopg.connect(settings, autocommit=True, prepare_threshold=None)


def warn_of_lost(missed: int) -> None:
    """Tell when much of what changed in a minute was found only because somebody looked."""
    if missed >= MANY_MISSED:
        log.warning("wake-ups are lost", missed=missed)


def warn_of_few(connection: Psycopg) -> None:
    """Tell when PostgreSQL may run out of connections. Each process's listener is named after what the process may open."""
    row = connection.execute(CONNECTIONS, {"listener": LISTENER}).fetchone()
    assert row is not None
    ours, others, limit = row
    if ours + others > limit:
        log.warning(
            "PostgreSQL may run out of connections",
            threadloom=ours,
            others=others,
            max_connections=limit,
            mend="lower database.pool_size, raise PostgreSQL's max_connections, or put PgBouncer between",
        )
