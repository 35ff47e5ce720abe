"""The event log of runs: what follows a place in one run's log, or in those of many, and how a log is forgotten."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import Select, bindparam, delete, select, tuple_, update

from threadloom.db.rows import EventRow, RunRow
from threadloom.db.tails import Tail, read_tails
from threadloom.db.tx import Tx

BATCH = 500
ENDS = frozenset(
    f"thread.run.{status}"
    for status in ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action")
)
GOING_ON = select(RunRow.id).where(
    RunRow.id.in_(bindparam("runs", expanding=True)),
    RunRow.status.not_in([name.removeprefix("thread.run.") for name in ENDS]),
)


class Event(NamedTuple):
    """One event as it is sent: `data` is one line of JSON."""

    epoch: int
    seq: int
    name: str
    data: str


Cursor = tuple[int, int]
START: Cursor = (0, 0)
Found = tuple[list[Event], bool]
"""Events, and whether more may follow them."""


class RunDeleted(Exception):
    """The run was deleted."""


def events_after(tx: Tx, run_id: str, cursor: Cursor) -> list[Event]:
    """The next stored events of a run, at most `BATCH`."""
    epoch, seq = cursor
    rows = tx.session.execute(
        select_events(), {"of_run": run_id, "after_epoch": epoch, "after_seq": seq}
    )
    return [Event(*row) for row in rows]


@cache
def select_events() -> Select[int, int, str, str]:
    place = tuple_(EventRow.epoch, EventRow.seq)
    return (
        select(EventRow.epoch, EventRow.seq, EventRow.name, EventRow.data)
        .where(EventRow.run_id == bindparam("of_run"))
        .where(place > tuple_(bindparam("after_epoch"), bindparam("after_seq")))
        .order_by(EventRow.epoch, EventRow.seq)
        .limit(BATCH)
    )


def look_for_all(tx: Tx, tails: Sequence[Tail]) -> list[Found | None]:
    """What `look` finds for each; None where the run rests or is gone, which `look` tells apart."""
    events: list[list[Event]] = [[] for _ in tails]
    for one in read_tails(tx.session, tails, BATCH):
        events[one.number].append(Event(one.epoch, one.seq, one.name, one.data))
    quiet = [tail.run_id for tail, found in zip(tails, events, strict=True) if not found]
    going_on = set(tx.session.scalars(GOING_ON, {"runs": quiet})) if quiet else set[str]()
    return [
        (found, goes_on_after(found)) if found else ([], True) if tail.run_id in going_on else None
        for tail, found in zip(tails, events, strict=True)
    ]


def goes_on_after(stored: Sequence[Event]) -> bool:
    return len(stored) == BATCH or stored[-1].name not in ENDS


def look(tx: Tx, run_id: str, cursor: Cursor) -> Found:
    """The next stored events, and whether more may follow them. Raises RunDeleted."""
    stored = events_after(tx, run_id, cursor)
    if stored:
        return stored, goes_on_after(stored)
    rests = run_rests(tx, run_id)
    # What was committed between the two looks is not lost; pruned events are gone for good.
    return events_after(tx, run_id, cursor), not rests


def run_rests(tx: Tx, run_id: str) -> bool:
    """Whether the run's log stands at an end. Raises RunDeleted."""
    status = tx.session.scalar(select(RunRow.status).where(RunRow.id == run_id))
    if status is None:
        raise RunDeleted(run_id)
    return f"thread.run.{status}" in ENDS


def forget_events(tx: Tx, ended_run_ids: Sequence[str]) -> None:
    """Delete what ended runs have told; their messages and steps stay."""
    at_once = {"synchronize_session": False}
    tx.session.execute(
        delete(EventRow).where(EventRow.run_id.in_(ended_run_ids)), execution_options=at_once
    )
    tx.session.execute(
        update(RunRow).where(RunRow.id.in_(ended_run_ids)).values(kept_since=None),
        execution_options=at_once,
    )
