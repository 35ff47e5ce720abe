"""`/metrics`: what was counted, with what is looked up for each scrape; and a port of its own for processes without HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.db.rows import Leased, RunRow, VectorStoreFileRow, WebhookDeliveryRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.leases import Backlog, backlog
from threadloom.telemetry import metrics, prometheus

LOOK_SECONDS = 2.0
"""A database that takes longer is in trouble; what was counted is told all the same."""
REQUEST_SECONDS = 5.0
LARGEST_REQUEST = 16 * 1024
QUEUES: Sequence[type[Leased]] = (RunRow, VectorStoreFileRow, WebhookDeliveryRow)


async def exposition(database: Database) -> bytes:
    """All metrics of this process as text."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            found = await database.read(backlogs)
    except (SQLAlchemyError, TimeoutError):
        found = {}
    metrics.QUEUE_DUE.know({queue: one.due for queue, one in found.items()})
    metrics.QUEUE_OLDEST.know({queue: one.oldest for queue, one in found.items()})
    metrics.WAKE_UPS_MISSED.know({"": database.signal.missed})
    return await asyncio.to_thread(prometheus.text)


def backlogs(tx: Tx) -> dict[str, Backlog]:
    return {kind.__tablename__: backlog(tx, kind) for kind in QUEUES}


@asynccontextmanager
async def listening(database: Database, host: str, port: int) -> AsyncGenerator[int]:
    """Answer `GET /metrics` on a port of its own, and nothing else, until the block ends; gives the port. Raises StartError."""
    prometheus.collect()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await answered(head, database))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=LARGEST_REQUEST)
    except OSError as error:
        raise StartError(f"Cannot listen on {host}:{port} for metrics: {error}.") from None
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answered(head: bytes, database: Database) -> bytes:
    """One HTTP answer; its connection then ends."""
    asked = head.split(b" ", 2)[:2]
    if len(asked) < 2 or asked[0] != b"GET" or asked[1].split(b"?")[0] != b"/metrics":  # noqa: PLR2004
        return http("404 Not Found", b"Only GET /metrics is answered here.\n")
    return http("200 OK", await exposition(database))


def http(status: str, body: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"content-type: {prometheus.CONTENT_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
