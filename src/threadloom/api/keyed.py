"""Requests with an `Idempotency-Key`, as rows: who executes one, what it wrote, what it was answered.

docs/idempotency.md tells what clients see, ADR 0017 why it is done so.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, select, tuple_, update

from threadloom.db.database import Database
from threadloom.db.insert import insert_missing
from threadloom.db.rows import IdempotencyRow
from threadloom.db.tx import Tx
from threadloom.errors import InvalidRequest
from threadloom.types.shared import JsonObject

NOBODY = ""
ROWS = 200
ROUNDS = 20


class KeyReused(InvalidRequest):
    """The Idempotency-Key came before with another request. Send the same request again, or use another key."""

    def __init__(self) -> None:
        super().__init__(code="idempotency_key_reused")


class KeyInUse(InvalidRequest):
    """A request with this Idempotency-Key is still being worked on. Please send it again in a moment."""

    status = 409

    def __init__(self) -> None:
        super().__init__(code="idempotency_key_in_use")


@dataclass(frozen=True)
class Keyed:
    """One execution of a request with a key; `holder` is its own."""

    project_id: str
    key: str
    fingerprint: str
    holder: str

    @property
    def channel(self) -> str:
        """What wakes those who wait for the answer; a key may have spaces, a channel none."""
        name = f"{self.project_id} {self.key}"
        return "idempotency-" + hashlib.sha256(name.encode()).hexdigest()[:32]

    @property
    def is_held(self) -> ColumnElement[bool]:
        """The condition that nobody took the request over."""
        return and_(
            IdempotencyRow.project_id == self.project_id,
            IdempotencyRow.key == self.key,
            IdempotencyRow.holder == self.holder,
        )


@dataclass(frozen=True)
class Stored:
    """An answer as it is given again."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Begun:
    """The request is ours to execute; earlier executions, if any, wrote this."""

    writes: list[JsonObject]


def begin(tx: Tx, request: Keyed, *, lease: float, keep: float) -> Begun | Stored | None:
    """Take the request, or the answer it got; None while another execution has it. Raises KeyReused."""
    now = tx.clock.now()
    new = (request.project_id, request.key, tx.now, request.fingerprint, request.holder)
    if insert_missing(tx.session, IdempotencyRow, [(*new, now + lease, "[]", None, "{}", None)]):
        return Begun([])
    row = tx.session.get(IdempotencyRow, (request.project_id, request.key), with_for_update=True)
    if row is None:  # whoever had it gave it up in this moment
        return None
    is_busy = row.holder not in (NOBODY, request.holder) and row.due_at > now
    if row.created_at + keep <= now and not is_busy:
        row.created_at, row.fingerprint = tx.now, request.fingerprint
        row.writes, row.status, row.headers, row.body = [], None, {}, None
    if row.fingerprint != request.fingerprint:
        raise KeyReused
    if row.status is not None:
        return Stored(row.status, row.headers, row.body or b"")
    if is_busy:
        return None
    row.holder, row.due_at = request.holder, now + lease
    return Begun(row.writes)


def renew(tx: Tx, request: Keyed, *, lease: float) -> bool:
    """Extend the lease; False when the request is not ours any more."""
    return changed(tx, request, due_at=tx.clock.now() + lease)


def record(tx: Tx, request: Keyed, writes: list[JsonObject]) -> None:
    """Remember what the request wrote, in the transaction that writes it. Raises KeyInUse when it was taken over."""
    if not changed(tx, request, writes=writes):
        raise KeyInUse


def finish(tx: Tx, request: Keyed, answer: Stored) -> None:
    """Keep the answer, unless the request was taken over: then the other execution gives the same."""
    changed(
        tx,
        request,
        holder=NOBODY,
        writes=[],
        status=answer.status,
        headers=answer.headers,
        body=answer.body,
    )
    tx.wake(request.channel)


def let_go(tx: Tx, request: Keyed) -> None:
    """Let the next one with this key execute it again, after what it wrote; or forget it, if it wrote nothing."""
    row = tx.session.scalar(select(IdempotencyRow).where(request.is_held).with_for_update())
    if row is None:
        return
    if row.writes:
        row.holder = NOBODY
    else:
        tx.session.delete(row)
    tx.wake(request.channel)


def changed(tx: Tx, request: Keyed, **values: object) -> bool:
    """Change the row if it is still ours."""
    statement = update(IdempotencyRow).where(request.is_held).values(**values)
    taken = tx.session.scalar(
        statement.returning(IdempotencyRow.key).execution_options(synchronize_session=False)
    )
    return taken is not None


async def sweep(database: Database, keep: float) -> None:
    """Forget a bounded share of the keys whose time is over. Any number of processes may sweep at once."""
    for _ in range(ROUNDS):
        if await database.write(forget, keep) < ROWS:
            break


def forget(tx: Tx, keep: float) -> int:
    now = tx.clock.now()
    name = tuple_(IdempotencyRow.project_id, IdempotencyRow.key)
    over = (
        select(IdempotencyRow.project_id, IdempotencyRow.key)
        .where(IdempotencyRow.created_at <= now - keep)
        .where((IdempotencyRow.holder == NOBODY) | (IdempotencyRow.due_at <= now))
        .order_by(IdempotencyRow.created_at)
        .limit(ROWS)
        .with_for_update(skip_locked=True)
    )
    keys = [tuple(row) for row in tx.session.execute(over)]
    if keys:
        tx.session.execute(delete(IdempotencyRow).where(name.in_(keys)))
    return len(keys)
