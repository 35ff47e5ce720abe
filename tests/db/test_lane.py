"""The threads behind the database, when jobs, loops and the lane end in an unlucky order."""

import asyncio
import threading
from collections.abc import Generator, Sequence

import pytest
from sqlalchemy import Connection

from tests.runs.workers import eventually
from threadloom.db.engine import connect, create_engine
from threadloom.db.lane import Job, Lane


@pytest.fixture
def batches() -> list[int]:
    """How many jobs were done together."""
    return []


@pytest.fixture
def lane(batches: list[int]) -> Generator[Lane]:
    engine = create_engine("sqlite://")

    def work(connection: Connection, jobs: Sequence[Job]) -> None:
        batches.append(len(jobs))
        for job in jobs:
            job.result = job.action(connection)

    made = Lane("test", lambda: connect(engine), work, threads=1, batch=True)
    yield made
    made.close()


async def test_jobs_queued_before_the_end_are_done_together(lane: Lane, batches: list[int]) -> None:
    begun, released = threading.Event(), threading.Event()

    def block(_: Connection) -> None:
        begun.set()
        released.wait(5)

    blocking = lane.submit(block)
    await eventually(begun.is_set)
    queued = [lane.submit(lambda _: "done") for _ in range(3)]
    closing = asyncio.create_task(asyncio.to_thread(lane.close))
    jobs = lane._jobs  # pyright: ignore[reportPrivateUsage] - nothing else tells that the end is queued
    await eventually(lambda: jobs.qsize() == 4)
    released.set()
    assert await asyncio.gather(blocking, *queued) == [None, "done", "done", "done"]
    await closing
    assert batches == [1, 3]


def test_a_loop_that_ended_meanwhile_hears_nothing(lane: Lane, batches: list[int]) -> None:
    released = threading.Event()

    async def leave() -> None:
        lane.submit(lambda _: released.wait(5))

    asyncio.run(leave())
    released.set()

    async def come_back() -> str:
        return await lane.submit(lambda _: "done")

    assert asyncio.run(come_back()) == "done"
