"""The queue: who gets a due row, for how long, and who is fenced off."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tests.runs.workers import claimed, opened, queue_runs
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.leases import Claim, LeaseLost, claim, hold, next_due, renew, still_held
from threadloom.testing import FrozenClock

LEASE = 15.0


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def database(database_url: str, clock: FrozenClock) -> AsyncGenerator[Database]:
    async with opened(database_url, clock) as one:
        yield one


async def claims(database: Database, limit: int = 10) -> list[Claim]:
    return await database.write(claim, RunRow, lease=LEASE, limit=limit)


async def test_the_longest_due_are_claimed_first(database: Database, clock: FrozenClock) -> None:
    first = await queue_runs(database)
    clock.advance(1)
    second = await queue_runs(database)
    taken = [(await claimed(database)).id for _ in range(2)]
    assert taken == [*first, *second]


async def test_a_claimed_row_is_not_claimed_again_while_its_lease_lasts(
    database: Database, clock: FrozenClock
) -> None:
    await queue_runs(database, 3)
    assert len(await claims(database, limit=2)) == 2
    assert len(await claims(database)) == 1
    clock.advance(LEASE - 1)
    assert await claims(database) == []


async def test_a_lease_that_ran_out_goes_to_another_with_a_higher_epoch(
    database: Database, clock: FrozenClock
) -> None:
    await queue_runs(database)
    lost = await claimed(database)
    clock.advance(LEASE)
    taken = await claimed(database)
    assert (taken.id, taken.epoch) == (lost.id, lost.epoch + 1)
    with pytest.raises(LeaseLost):
        await database.read(hold, RunRow, lost)
    assert (await database.read(hold, RunRow, taken)).id == taken.id


async def test_a_renewed_lease_lasts_longer(database: Database, clock: FrozenClock) -> None:
    await queue_runs(database)
    held = await claimed(database)
    clock.advance(LEASE - 1)
    assert await database.write(renew, RunRow, [held], lease=LEASE) == {held}
    clock.advance(LEASE - 1)
    assert await claims(database) == []


async def test_a_lost_lease_is_not_renewed(database: Database, clock: FrozenClock) -> None:
    await queue_runs(database, 2)
    lost, kept = await claims(database)
    clock.advance(LEASE)
    assert len(await claims(database, limit=1)) == 1
    assert len(await database.write(renew, RunRow, [lost, kept], lease=LEASE)) == 1
    assert await database.read(still_held, RunRow, [lost]) == set()


async def test_a_deleted_row_is_held_by_nobody(database: Database) -> None:
    with pytest.raises(LeaseLost):
        await database.read(hold, RunRow, Claim("run_1", 1))


async def test_the_next_due_row_tells_when(database: Database, clock: FrozenClock) -> None:
    assert await database.read(next_due, RunRow) is None
    await queue_runs(database)
    assert await database.read(next_due, RunRow) == clock.now()


async def test_racing_workers_share_the_queue_without_overlap(
    database: Database, database_url: str, clock: FrozenClock
) -> None:
    runs = await queue_runs(database, 20)
    async with opened(database_url, clock) as other:
        racing = [claims(one, limit=3) for one in (database, other) for _ in range(8)]
        taken = [one.id for some in await asyncio.gather(*racing) for one in some]
    taken += [one.id for one in await claims(database, limit=20)]
    assert sorted(taken) == sorted(runs)
