"""Takes deliveries to their endpoints: leased rows, like runs.

Those of one subject go to an endpoint one after the other: whatever claims a later one finds the earlier one pending and puts its own back.
Whoever ends a delivery makes the next one due.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Literal
from zlib import crc32

from sqlalchemy import ColumnElement, bindparam, delete, exists, select, update
from sqlalchemy.orm import aliased

from threadloom.config import Outbound, Webhooks
from threadloom.db.database import Database
from threadloom.db.rows import WebhookDeliveryRow, WebhookEndpointRow
from threadloom.db.tx import Tx
from threadloom.faults import point
from threadloom.leases import Claim, hold
from threadloom.outbound import guarded_client
from threadloom.outbox import DELIVERIES
from threadloom.queue import AbortReason, Held, Queue
from threadloom.webhooks.sending import GONE, Letter, Reply, send

MAX_PAUSE = 3_600.0
NEXT_LOOK = 60.0
"""Seconds after which a delivery that waits for another looks whether that is over, should nobody have told it."""
MAX_RETRY_AFTER = 86_400.0
PRUNED = 500
"""Rows of the log that are removed in one transaction."""
ROUNDS = 100
DISABLED = "The endpoint is disabled."
OTHER = aliased(WebhookDeliveryRow)
DUE = (
    select(WebhookDeliveryRow.seq, WebhookDeliveryRow.endpoint_id)
    .where(WebhookDeliveryRow.due_at <= bindparam("now"))
    .where(WebhookDeliveryRow.endpoint_id.not_in(bindparam("full", expanding=True)))
    .order_by(WebhookDeliveryRow.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)


class Deliveries:
    """Delivers what is due, some at a time, and a few of these to the same endpoint: a slow one does not stop the others."""

    def __init__(
        self, database: Database, settings: Webhooks, outbound: Outbound, *, lease: float
    ) -> None:
        self._database = database
        self._settings = settings
        self._outbound = outbound
        self._endpoints: dict[str, str] = {}
        self._passed_over = False
        self._queue = Queue(
            database,
            WebhookDeliveryRow,
            DELIVERIES,
            self._drive,
            concurrency=settings.concurrency,
            lease=lease,
            take=self._take,
        )

    async def run(self) -> None:
        """Work until drained."""
        async with guarded_client(self._outbound, timeout=self._settings.timeout) as client:
            self._client = client
            await self._queue.run()

    def drain(self) -> None:
        """Claim nothing more and hand back what is held; `run` then returns."""
        self._queue.drain()

    async def sweep(self) -> None:
        """Forget deliveries that ended long ago."""
        for _ in range(ROUNDS):
            if await self._database.write(prune, self._settings.keep) < PRUNED:
                break

    def _take(self, tx: Tx, lease: float, limit: int) -> Sequence[Claim]:
        held = {one.claim.id for one in self._queue.held}
        self._endpoints = {row: at for row, at in self._endpoints.items() if row in held}
        busy = Counter(self._endpoints.values())
        taken, self._passed_over = claim_fairly(
            tx, busy, lease=lease, limit=limit, per_endpoint=self._settings.per_endpoint
        )
        self._endpoints |= {claim.id: endpoint_id for claim, endpoint_id in taken}
        return [claim for claim, _ in taken]

    async def _drive(self, held: Held) -> None:
        if held.reason is None:
            await held.perform(self._deliver(held.claim))
        if held.reason is AbortReason.SHUTDOWN:
            await self._database.write(hand_back, held.claim)
        if self._passed_over:  # its endpoint has room again
            self._ring()

    async def _deliver(self, claim: Claim) -> None:
        letter = await self._database.read(open_letter, claim)
        if letter is None:
            await self._database.write(put_off, claim)
            return
        now = self._database.clock.now()
        reply = await send(self._client, letter, now=now, timeout=self._settings.timeout)
        point("webhooks.sent")
        pause = await self._database.write(record, claim, reply, self._settings)
        if pause is not None:
            asyncio.get_running_loop().call_later(pause, self._ring)

    def _ring(self) -> None:
        """Have this process look for what is due."""
        self._database.signal.notify([DELIVERIES])


def claim_fairly(
    tx: Tx, busy: Counter[str], *, lease: float, limit: int, per_endpoint: int
) -> tuple[list[tuple[Claim, str]], bool]:
    """Take up to `limit` due rows, the longest due first, and no more than have room at their endpoints: `busy` says how many are under way there.

    Answers with the claims and their endpoints, and whether others would have been taken if there were room.
    """
    busy = busy.copy()
    chosen: dict[int, str] = {}
    any_full = any(count >= per_endpoint for count in busy.values())
    passed_over = True
    while passed_over and len(chosen) < limit:
        full = [endpoint_id for endpoint_id, count in busy.items() if count >= per_endpoint]
        found = tx.session.execute(
            DUE, {"now": tx.clock.now(), "full": full, "most": limit + len(chosen)}
        ).all()
        passed_over = False
        for seq, endpoint_id in found:
            if seq in chosen or len(chosen) == limit:
                continue
            if busy[endpoint_id] < per_endpoint:
                chosen[seq] = endpoint_id
                busy[endpoint_id] += 1
            else:
                any_full = passed_over = True
    return lease_out(tx, chosen, lease), any_full


def lease_out(tx: Tx, chosen: dict[int, str], lease: float) -> list[tuple[Claim, str]]:
    if not chosen:
        return []
    row = WebhookDeliveryRow
    leased = tx.session.execute(
        update(row)
        .where(row.seq.in_(chosen))
        .values(epoch=row.epoch + 1, due_at=tx.clock.now() + lease)
        .returning(row.id, row.epoch, row.endpoint_id)
        .execution_options(synchronize_session=False)
    )
    return [(Claim(row_id, epoch), endpoint_id) for row_id, epoch, endpoint_id in leased]


def pending_beside(row: WebhookDeliveryRow | type[WebhookDeliveryRow]) -> list[ColumnElement[bool]]:
    """What says that `OTHER` is pending, and about the same subject at the same endpoint."""
    return [
        OTHER.endpoint_id == row.endpoint_id,
        OTHER.subject == row.subject,
        OTHER.due_at.is_not(None),
    ]


LETTER = (
    select(WebhookDeliveryRow.event_id, WebhookDeliveryRow.payload, WebhookEndpointRow)
    .join(WebhookEndpointRow, WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id)
    .where(WebhookDeliveryRow.id == bindparam("held_id"))
    .where(WebhookDeliveryRow.epoch == bindparam("held_epoch"))
    .where(WebhookDeliveryRow.due_at.is_not(None), WebhookEndpointRow.status == "enabled")
    .where(
        ~exists(OTHER.seq).where(
            *pending_beside(WebhookDeliveryRow), OTHER.seq < WebhookDeliveryRow.seq
        )
    )
)


def open_letter(tx: Tx, claim: Claim) -> Letter | None:
    """What to send for a claimed delivery; None when it is not its turn, or its endpoint takes nothing more."""
    values = {"held_id": claim.id, "held_epoch": claim.epoch}
    found = tx.session.execute(LETTER, values).one_or_none()
    if found is None:
        return None
    event_id, text, endpoint = found
    return letter_to(endpoint, event_id, text, tx.clock.now())


def letter_to(endpoint: WebhookEndpointRow, event_id: str, text: str, now: float) -> Letter:
    secrets = [endpoint.signing_secret]
    if endpoint.old_secret and now < (endpoint.old_secret_until or 0):
        secrets.append(endpoint.old_secret)
    return Letter(endpoint.url, secrets, event_id, text)


def put_off(tx: Tx, claim: Claim) -> None:
    """A delivery that is not to be sent now: later, when the earlier one is over; or never. Raises LeaseLost."""
    row = hold(tx, WebhookDeliveryRow, claim)
    status = tx.session.scalar(
        select(WebhookEndpointRow.status).where(WebhookEndpointRow.id == row.endpoint_id)
    )
    if status == "enabled":
        wait_for_turn(tx, row)
    elif status == "disabled":
        row.error = DISABLED
        end(tx, row, "failed")
    else:
        tx.session.delete(row)


def wait_for_turn(tx: Tx, row: WebhookDeliveryRow) -> None:
    """Whoever ends the first one makes the next due; the time set here only counts when that went wrong."""
    first = (
        select(OTHER.due_at)
        .where(*pending_beside(row), OTHER.seq < row.seq)
        .order_by(OTHER.seq)
        .limit(1)
    )
    due_at = tx.session.scalar(first)
    release(row, tx.clock.now() if due_at is None else max(due_at, tx.clock.now()) + NEXT_LOOK)


def record(tx: Tx, claim: Claim, reply: Reply, settings: Webhooks) -> float | None:
    """Write down how an attempt went; answers with the seconds until the next one, if there is one. Raises LeaseLost."""
    row = hold(tx, WebhookDeliveryRow, claim)
    row.attempts += 1
    row.response_status = reply.status
    row.error = reply.error
    if reply.error is None:
        end(tx, row, "delivered")
        return None
    if reply.status == GONE:
        disable(tx, row.endpoint_id)
        end(tx, row, "failed")
        return None
    pause = pause_of(row, reply, settings.pause)
    due_at = tx.clock.now() + pause
    if due_at > row.created_at + settings.give_up_after:
        end(tx, row, "failed")
        return None
    release(row, due_at)
    return pause


def pause_of(row: WebhookDeliveryRow, reply: Reply, first: float) -> float:
    """Doubled with each attempt; two deliveries that failed together are not tried again together."""
    longest = min(first * 2.0 ** min(row.attempts - 1, 32), MAX_PAUSE)
    share = crc32(f"{row.id}{row.attempts}".encode()) / 2**32
    return max(longest * (0.5 + share / 2), min(reply.retry_after, MAX_RETRY_AFTER))


def end(tx: Tx, row: WebhookDeliveryRow, status: Literal["delivered", "failed"]) -> None:
    """The delivery is over, and it is the turn of the subject's next."""
    row.status = status
    row.due_at = None
    row.ended_at = tx.now
    tx.session.flush()
    later = WebhookDeliveryRow
    following = (
        select(OTHER.seq)
        .where(*pending_beside(row), OTHER.seq > row.seq)
        .order_by(OTHER.seq)
        .limit(1)
        .scalar_subquery()
    )
    woken = tx.session.execute(
        update(later)
        .where(later.seq == following)
        # Whoever has it, to put it back, has not.
        .values(due_at=tx.clock.now(), epoch=later.epoch + 1)
        .returning(later.seq)
        .execution_options(synchronize_session=False)
    )
    if woken.first():
        tx.wake(DELIVERIES)


def disable(tx: Tx, endpoint_id: str) -> None:
    """The endpoint said that it is gone for good."""
    tx.session.execute(
        update(WebhookEndpointRow)
        .where(WebhookEndpointRow.id == endpoint_id)
        .values(status="disabled", updated_at=tx.now)
        .execution_options(synchronize_session=False)
    )


def release(row: WebhookDeliveryRow, due_at: float) -> None:
    row.epoch += 1  # a renewal that is under way shall not take it back
    row.due_at = due_at


def hand_back(tx: Tx, claim: Claim) -> None:
    """Let the next worker go on at once; the endpoint may see the event twice, with the same id. Raises LeaseLost."""
    release(hold(tx, WebhookDeliveryRow, claim), tx.clock.now())
    tx.wake(DELIVERIES)


def prune(tx: Tx, keep: float) -> int:
    """Forget some deliveries that ended long ago; answers with how many."""
    row = WebhookDeliveryRow
    ended = select(row.seq).where(row.ended_at < tx.now - keep).limit(PRUNED)
    old = tx.session.scalars(ended.with_for_update(skip_locked=True)).all()
    tx.session.execute(
        delete(row).where(row.seq.in_(old)).execution_options(synchronize_session=False)
    )
    return len(old)
