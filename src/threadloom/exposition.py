"""`/metrics`: what was counted, with what is looked up for each scrape; and a port of its own for processes without HTTP."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from threadloom.db.database import Database
from threadloom.db.rows import Leased, RunRow, VectorStoreFileRow, WebhookDeliveryRow
from threadloom.db.tx import Tx
from threadloom.leases import Backlog, backlog
from threadloom.telemetry import metrics, scraping

LOOK_SECONDS = 2.0
"""A database that takes longer is in trouble; what was counted is told all the same."""
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
    return await scraping.own_metrics()


def backlogs(tx: Tx) -> dict[str, Backlog]:
    return {kind.__tablename__: backlog(tx, kind) for kind in QUEUES}


def listening(database: Database, host: str, port: int) -> AbstractAsyncContextManager[int]:
    """Answer `GET /metrics` on a port of its own, and nothing else, until the block ends; gives the port. Raises StartError."""
    return scraping.listening(partial(exposition, database), host, port)
