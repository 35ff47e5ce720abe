"""Wake-ups between processes: PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import secrets
import select
import socket
import threading
from collections.abc import Iterable, Iterator

import psycopg
import structlog
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from threadloom.db.signal import Signal

CHANNEL = "threadloom"
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
    """Listens in a thread of its own and passes on what other processes say."""

    def __init__(self, url: str, signal: Signal) -> None:
        self.origin = secrets.token_hex(8)
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
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
            except psycopg.Error as error:
                # Waiters look by themselves each second: a lost listener makes them slower, not wrong.
                log.warning("listener lost", error=type(error).__name__)
                self._closed.wait(1.0)

    def _listen(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            while not self._closed.is_set():
                select.select([connection, self._interrupted], [], [])
                for notification in connection.notifies(timeout=0):
                    self._pass_on(notification.payload)

    def _pass_on(self, payload: str) -> None:
        origin, *channels = payload.split(" ")
        if origin != self.origin and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._signal.notify, channels)
