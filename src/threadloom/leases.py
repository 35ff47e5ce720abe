"""The queue: rows that workers claim for a while.

A row is due from `due_at` on. A claim raises its `epoch` and moves `due_at` to the end of the lease, so a row whose
worker died is simply due again: there is no reaper. Whoever writes holds the row with its epoch, or is fenced off.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Update, bindparam, func, select, tuple_, update

from threadloom.db.rows import Leased
from threadloom.db.tx import Tx

LeasedRow = TypeVar("LeasedRow", bound=Leased)


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one row."""

    id: str
    epoch: int


class LeaseLost(Exception):
    """Another worker has the row, or it is gone."""


@dataclass(frozen=True)
class Backlog:
    """How many rows are due, and for how many seconds the longest due is."""

    due: int
    oldest: float


def backlog(tx: Tx, kind: type[Leased], *conditions: ColumnElement[bool]) -> Backlog:
    """What waits for somebody to claim it."""
    now = tx.clock.now()
    counted = select(func.count(), func.min(kind.due_at)).where(kind.due_at <= now, *conditions)
    due, first = tx.session.execute(counted).one()
    return Backlog(due, 0.0 if first is None else now - first)


def next_due(tx: Tx, kind: type[LeasedRow]) -> float | None:
    """When the next row is due; None when none ever will be."""
    return tx.session.scalar(
        select(kind.due_at).where(kind.due_at.is_not(None)).order_by(kind.due_at).limit(1)
    )


def claim(tx: Tx, kind: type[LeasedRow], *, lease: float, limit: int) -> list[Claim]:
    """Take up to `limit` due rows for `lease` seconds, the longest due first."""
    now = tx.clock.now()
    rows = tx.session.execute(
        claim_statement(kind), {"now": now, "until": now + lease, "limit": limit}
    )
    return [Claim(object_id, epoch) for object_id, epoch in rows]


def renew(tx: Tx, kind: type[LeasedRow], claims: Collection[Claim], *, lease: float) -> set[Claim]:
    """Extend what is still held; answers with the claims that are."""
    held = still_held(tx, kind, claims)
    tx.session.execute(
        update(kind)
        .where(kind.id.in_([one.id for one in held]))
        .values(due_at=tx.clock.now() + lease)
        .execution_options(synchronize_session=False)
    )
    return held


def hold(tx: Tx, kind: type[LeasedRow], claim: Claim) -> LeasedRow:
    """The claimed row, locked for this transaction. Raises LeaseLost."""
    row = tx.session.scalar(hold_statement(kind), {"held_id": claim.id, "held_epoch": claim.epoch})
    if row is None:
        raise LeaseLost(claim.id)
    return row


def still_held(tx: Tx, kind: type[LeasedRow], claims: Collection[Claim]) -> set[Claim]:
    """Those of the claims that nobody took over, locked for this transaction.

    Whoever locks several rows does it in their order, or two of them would wait for each other.
    """
    rows = tx.session.execute(
        select(kind.id, kind.epoch)
        .where(tuple_(kind.id, kind.epoch).in_([(one.id, one.epoch) for one in claims]))
        .where(kind.due_at.is_not(None))
        .order_by(kind.seq)
        .with_for_update()
    )
    return {Claim(*row) for row in rows}


@cache
def claim_statement(kind: type[LeasedRow]) -> Update:
    due = (
        select(kind.seq)
        .where(kind.due_at <= bindparam("now"))
        .order_by(kind.due_at)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(kind)
        .where(kind.seq.in_(select(due.c.seq)))
        .values(epoch=kind.epoch + 1, due_at=bindparam("until"))
        .returning(kind.id, kind.epoch)
        .execution_options(synchronize_session=False)
    )


@cache
def hold_statement(kind: type[LeasedRow]) -> Select[LeasedRow]:
    return (
        select(kind)
        .where(kind.id == bindparam("held_id"), kind.epoch == bindparam("held_epoch"))
        .where(kind.due_at.is_not(None))
        .with_for_update()
    )
