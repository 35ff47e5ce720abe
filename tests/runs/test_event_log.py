"""A run's log, when its worker is stopped."""

import asyncio
import gc

import pytest

from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.events import EventWriter, Feed
from threadloom.ids import RandomIds
from threadloom.leases import Claim
from threadloom.runs import lifecycle


async def test_a_stopped_commit_that_finds_its_lease_lost_is_not_complained_about(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A run that is cancelled between its claim and its start is claimed again, and the first claim is stopped.
    database = Database(database_url, clock=SystemClock(), ids=RandomIds())
    log = EventWriter(database, Feed(database)).open(Claim("run_of_another_worker", 1))
    committing = asyncio.create_task(log.commit(lifecycle.start_run))
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await database.close()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
