"""A process's share of a queue."""

import asyncio

from tests.runs.workers import opened, queue_runs
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.leases import Claim, hold
from threadloom.queue import Held, Queue
from threadloom.runs.actions import QUEUE

PLACES, WAITING = 4, 60


def finish(tx: Tx, claim: Claim) -> None:
    hold(tx, RunRow, claim).due_at = None


async def work_off(database: Database, rows: int) -> None:
    """Until so many rows were finished, a few at a time."""
    left = asyncio.Semaphore(0)

    async def drive(held: Held) -> None:
        await database.write(finish, held.claim)
        left.release()

    queue = Queue(database, RunRow, QUEUE, drive, concurrency=PLACES, lease=15.0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.run())
        for _ in range(rows):
            await left.acquire()
        queue.drain()


async def test_a_place_that_is_free_again_is_filled_without_waiting_for_the_poll(
    database_url: str,
) -> None:
    async with opened(database_url) as database:
        await queue_runs(database, WAITING)
        await work_off(database, WAITING)
        assert database.signal.missed == 0
