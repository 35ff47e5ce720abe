"""What an action works with: one transaction, its time, new ids, and one project's view of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    JSON,
    ColumnElement,
    Select,
    bindparam,
    inspect,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session

from threadloom.clock import Clock
from threadloom.db.columns import Json
from threadloom.db.rows import Owned, TombstoneRow
from threadloom.errors import InvalidRequest, NotFound
from threadloom.ids import Ids

Order = Literal["asc", "desc"]
OwnedRow = TypeVar("OwnedRow", bound=Owned)


@dataclass
class Tx:
    """One transaction. `wake` notifies a channel after the commit."""

    session: Session
    clock: Clock
    ids: Ids
    woken: set[str] = field(default_factory=set[str])
    told: set[str] = field(default_factory=set[str])

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock.now())

    def wake(self, channel: str) -> None:
        self.woken.add(channel)

    def tell_others(self, channel: str) -> None:
        """Like `wake`, for other processes only: this one knows already."""
        self.told.add(channel)

    def delete(self, row: Owned) -> None:
        """Delete a row and remember where it stood, last if it was there before: a store may get a file again."""
        self.session.merge(TombstoneRow(id=row.id, project_id=row.project_id, seq=row.seq))
        self.session.delete(row)


@dataclass(frozen=True)
class PageQuery:
    """Which page of a list. `place` is a row's number to go on from, whatever became of the row; clients name an object instead."""

    limit: int = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None
    place: int | None = None


Shown = dict[str, Any]
"""A row that is only read to be sent: values by the row's names, JSON as it stands."""


@dataclass
class Rows:
    """One page of rows."""

    rows: Sequence[Shown]
    has_more: bool


@dataclass
class ProjectTx(Tx):
    """A transaction that sees one project. Every query of the API goes through it."""

    project_id: str = ""

    def get(self, kind: type[OwnedRow], object_id: str, *, lock: bool = False) -> OwnedRow:
        """The row with this id, locked against other writers if asked. Raises NotFound."""
        row = self.session.scalar(
            by_id(kind, lock), {"object_id": object_id, "project_id": self.project_id}
        )
        if row is None:
            raise self.missing(kind, object_id)
        return row

    def show(self, kind: type[Owned], object_id: str, **parent: str) -> Shown:
        """The row with this id (and this `thread_id=…`), to be sent. Raises NotFound."""
        found = (
            self.session.connection()
            .execute(
                shown_by_id(kind, tuple(parent)),
                {"object_id": object_id, "project_id": self.project_id} | parent,
            )
            .mappings()
        )
        row = found.one_or_none()
        if row is None:
            raise self.missing(kind, object_id)
        return dict(row)

    def missing(self, kind: type[Owned], object_id: str) -> NotFound:
        return kind.missing(object_id)

    def page(
        self,
        kind: type[Owned],
        query: PageQuery,
        *conditions: ColumnElement[bool],
        **parent: str,
    ) -> Rows:
        """The page of rows whose parent is given as `thread_id=…` or `run_id=…`, if any."""
        cursors = self._cursors(kind, query)
        statement = page_statement(kind, query.order, tuple(sorted(cursors)), tuple(sorted(parent)))
        if conditions:
            statement = statement.where(*conditions)
        found = (
            self.session.connection()
            .execute(
                statement,
                {"project_id": self.project_id, "limit": query.limit + 1} | cursors | parent,
            )
            .mappings()
        )
        rows = [dict(row) for row in found]
        page = rows[: query.limit]
        # A page that ends just before a cursor keeps the rows nearest to it.
        return Rows(page[::-1] if "before" in cursors else page, len(rows) > query.limit)

    def _cursors(self, kind: type[Owned], query: PageQuery) -> dict[str, Any]:
        given = {"after": query.after, "before": query.before}
        places = {name: self._place(kind, name, at) for name, at in given.items() if at}
        return places if query.place is None else places | {"after": query.place}

    def _place(self, kind: type[Owned], name: str, object_id: str) -> int:
        """Where the object stands, or stood before it was deleted."""
        for table in (kind, TombstoneRow):
            seq = self.session.scalar(
                select(table.seq).where(table.id == object_id, table.project_id == self.project_id)
            )
            if seq is not None:
                return seq
        raise InvalidRequest(
            f"Invalid '{name}': no {kind.noun} found with id '{object_id.rpartition('/')[2]}'.",
            param=name,
            code="invalid_value",
        )


# Building a statement costs three times as much as running it: each shape is built once.
@cache
def by_id(kind: type[OwnedRow], lock: bool) -> Select[OwnedRow]:
    statement = select(kind).where(
        kind.id == bindparam("object_id"), kind.project_id == bindparam("project_id")
    )
    # On PostgreSQL a stronger lock would also keep out rows that only refer to this one.
    return statement.with_for_update(key_share=True) if lock else statement


@cache
def shown_columns(kind: type[Owned]) -> Mapping[str, ColumnElement[Any]]:
    """All columns by their attributes' names, past the ORM, which costs as much again as the query.

    JSON is not typed here: what is sent is typed once, by its own type.
    """
    columns = {one.key: one.columns[0] for one in inspect(kind).column_attrs}
    return {
        name: type_coerce(column, JSON(none_as_null=True))
        if isinstance(column.type, Json)
        else column
        for name, column in columns.items()
    }


@cache
def shown_by_id(kind: type[Owned], parent: tuple[str, ...]) -> Select[Any]:
    columns = shown_columns(kind)
    return select(*labelled(columns)).where(
        columns["id"] == bindparam("object_id"),
        columns["project_id"] == bindparam("project_id"),
        *(columns[name] == bindparam(name) for name in parent),
    )


@cache
def page_statement(
    kind: type[Owned], order: Order, cursors: tuple[str, ...], parent: tuple[str, ...]
) -> Select[Any]:
    columns = shown_columns(kind)
    seq = columns["seq"]
    newest_first = (order == "desc") != ("before" in cursors)
    statement = (
        select(*labelled(columns))
        .where(columns["project_id"] == bindparam("project_id"))
        .where(*(columns[name] == bindparam(name) for name in parent))
        .order_by(seq.desc() if newest_first else seq.asc())
        .limit(bindparam("limit"))
    )
    for name in cursors:
        lower = (order == "desc") == (name == "after")
        statement = statement.where(seq < bindparam(name) if lower else seq > bindparam(name))
    return statement


def labelled(columns: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [column.label(name) for name, column in columns.items()]
