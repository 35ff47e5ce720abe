"""What is old, and how it goes: threads, files, vector stores, events, deliveries and usage.

Each kind is looked through in the order of its rows, from a place on, so that any amount of it is looked through in bounded steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from sqlalchemy import ColumnElement, ScalarSelect, Select, delete, select

from threadloom.db.rows import (
    IS_ACTIVE,
    FileRow,
    MessageRow,
    Owned,
    RunRow,
    ThreadRow,
    UsageRow,
    VectorStoreRow,
    WebhookDeliveryRow,
)
from threadloom.db.tx import Tx
from threadloom.eventlog import forget_events
from threadloom.files.actions import remove as remove_file
from threadloom.retrieval.stores import delete_store
from threadloom.runs.threads import delete_thread
from threadloom.usage import day_of

Row = TypeVar("Row", bound=Owned)
What = Literal["threads", "files", "vector_stores", "events", "deliveries", "usage"]
WHATS: tuple[What, ...] = get_args(What)
LOOKED_AT = 200


@dataclass(frozen=True)
class Scope:
    """What was last used before this time (Unix seconds), in one project or in all."""

    before: float
    project_id: str | None = None

    def of_project(self, kind: type[Owned] | type[UsageRow]) -> list[ColumnElement[bool]]:
        return [] if self.project_id is None else [kind.project_id == self.project_id]


@dataclass(frozen=True)
class Found:
    """What was found between two places; no `place`: nothing follows."""

    keys: Sequence[Any]
    place: int | None


@dataclass(frozen=True)
class Kind:
    """How one kind is found and removed. `remove` looks again, because time has passed, and answers with how many it removed."""

    find: Callable[[Tx, Scope, int], Found]
    remove: Callable[[Tx, Scope, Sequence[Any]], int]
    together: int
    """How many go in one transaction."""


def find_threads(tx: Tx, scope: Scope, place: int) -> Found:
    """A thread may be old and still in use, so that its age alone tells nothing: each is looked at."""
    rows = tx.session.execute(
        select(ThreadRow.seq, ThreadRow.id, ThreadRow.created_at, *last_used())
        .where(ThreadRow.seq > place, *scope.of_project(ThreadRow))
        .order_by(ThreadRow.seq)
        .limit(LOOKED_AT)
    ).all()
    old = [row.id for row in rows if max(each or 0 for each in row[2:]) < scope.before]
    return Found(old, rows[-1].seq if len(rows) == LOOKED_AT else None)


def last_used() -> Sequence[ScalarSelect[int]]:
    return [
        select(kind.created_at)
        .where(kind.thread_id == ThreadRow.id)
        .order_by(kind.seq.desc())
        .limit(1)
        .scalar_subquery()
        for kind in (MessageRow, RunRow)
    ]


def remove_threads(tx: Tx, scope: Scope, thread_ids: Sequence[str]) -> int:
    removed = 0
    for thread_id in thread_ids:
        thread = tx.session.scalar(
            select(ThreadRow).where(ThreadRow.id == thread_id).with_for_update()
        )
        if thread is not None and is_unused(tx, thread, scope):
            delete_thread(tx, thread)
            removed += 1
    return removed


def is_unused(tx: Tx, thread: ThreadRow, scope: Scope) -> bool:
    used = tx.session.execute(select(*last_used()).where(ThreadRow.id == thread.id)).one()
    of_thread = RunRow.thread_id == thread.id
    active = tx.session.scalar(select(RunRow.seq).where(of_thread, IS_ACTIVE).limit(1))
    return active is None and max(each or 0 for each in used) < scope.before


def find_owned(kind: type[Owned], is_old: Callable[[Scope], ColumnElement[bool]]) -> Any:
    """Finds rows by a condition of their own; their keys are their numbers."""

    def find(tx: Tx, scope: Scope, place: int) -> Found:
        old = (
            select(kind.seq)
            .where(kind.seq > place, is_old(scope), *scope.of_project(kind))
            .order_by(kind.seq)
            .limit(LOOKED_AT)
        )
        seqs = tx.session.scalars(old).all()
        return Found(seqs, seqs[-1] if len(seqs) == LOOKED_AT else None)

    return find


def old_file(scope: Scope) -> ColumnElement[bool]:
    return FileRow.created_at < scope.before


def remove_files(tx: Tx, scope: Scope, seqs: Sequence[int]) -> int:
    old = select(FileRow).where(FileRow.seq.in_(seqs), old_file(scope))
    return remove_each(tx, old.order_by(FileRow.seq), remove_file)


def old_store(scope: Scope) -> ColumnElement[bool]:
    return VectorStoreRow.last_active_at < scope.before


def remove_stores(tx: Tx, scope: Scope, seqs: Sequence[int]) -> int:
    old = select(VectorStoreRow).where(VectorStoreRow.seq.in_(seqs), old_store(scope))
    return remove_each(tx, old.order_by(VectorStoreRow.seq), delete_store)


def remove_each(tx: Tx, old: Select[Row], remove: Callable[[Tx, Row], object]) -> int:
    rows = tx.session.scalars(old.with_for_update()).all()
    for row in rows:
        remove(tx, row)
    return len(rows)


def old_events(scope: Scope) -> ColumnElement[bool]:
    return RunRow.kept_since < scope.before


def remove_events(tx: Tx, scope: Scope, seqs: Sequence[int]) -> int:
    """Of ended runs; messages and steps stay. Answers with how many runs they were of."""
    del scope
    kept = select(RunRow.id).where(RunRow.seq.in_(seqs), RunRow.kept_since.is_not(None))
    run_ids = tx.session.scalars(kept).all()
    forget_events(tx, run_ids)
    return len(run_ids)


def old_delivery(scope: Scope) -> ColumnElement[bool]:
    return WebhookDeliveryRow.ended_at < scope.before


def remove_deliveries(tx: Tx, scope: Scope, seqs: Sequence[int]) -> int:
    row = WebhookDeliveryRow
    old = delete(row).where(row.seq.in_(seqs), old_delivery(scope)).returning(row.seq)
    return len(tx.session.scalars(old.execution_options(synchronize_session=False)).all())


def find_usage(tx: Tx, scope: Scope, place: int) -> Found:
    """Days, of which there are few."""
    del place
    old = select(UsageRow.day).where(UsageRow.day < day_of(scope.before))
    days = old.where(*scope.of_project(UsageRow)).distinct().order_by(UsageRow.day)
    return Found(tx.session.scalars(days).all(), None)


def remove_usage(tx: Tx, scope: Scope, days: Sequence[str]) -> int:
    old = delete(UsageRow).where(UsageRow.day.in_(days), *scope.of_project(UsageRow))
    tx.session.execute(old.execution_options(synchronize_session=False))
    return len(days)


KINDS: Mapping[What, Kind] = {
    "threads": Kind(find_threads, remove_threads, together=1),
    "files": Kind(find_owned(FileRow, old_file), remove_files, together=20),
    "vector_stores": Kind(find_owned(VectorStoreRow, old_store), remove_stores, together=1),
    "events": Kind(find_owned(RunRow, old_events), remove_events, together=20),
    "deliveries": Kind(
        find_owned(WebhookDeliveryRow, old_delivery), remove_deliveries, together=200
    ),
    "usage": Kind(find_usage, remove_usage, together=30),
}
