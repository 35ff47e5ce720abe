"""The database of a request that may be executed again: what it wrote once is not written twice.

Each write commits together with its result. Whoever executes the request again gets the results from there, and so builds
the same answer. What was read before a write is recorded with it, because it may look different afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from pydantic_core import to_jsonable_python
from sqlalchemy import inspect

from threadloom.api.keyed import Keyed, record
from threadloom.db.columns import Json
from threadloom.db.database import ProjectDatabase
from threadloom.db.rows import Row
from threadloom.db.tx import ProjectTx
from threadloom.faults import point
from threadloom.types.runs import Run
from threadloom.types.shared import JsonObject, Sent
from threadloom.types.uploads import Upload
from threadloom.types.vector_stores import FileBatch

P = ParamSpec("P")
R = TypeVar("R")
SENT: dict[str, type[Sent]] = {kind.__name__: kind for kind in (FileBatch, Run, Upload)}
"""Objects that actions of handlers answer with; tests/api/test_idempotency.py finds those that are missing."""
ROWS: dict[str, type[Row]] = {
    mapper.class_.__name__: mapper.class_ for mapper in Row.registry.mappers
}


@dataclass
class Journal:
    """The results of a request's transactions: committed ones, and of reads that no write followed yet."""

    entries: list[JsonObject]
    place: int = 0
    reads: list[object] = field(default_factory=list[object])
    is_used: bool = False

    @property
    def has_next(self) -> bool:
        return self.place < len(self.entries)

    def next(self) -> Any:
        self.place += 1
        return decode(self.entries[self.place - 1]["result"])

    def continued(self, result: object) -> list[JsonObject]:
        """The entries with what was read since the last of them, and the result of a write."""
        return [*self.entries, *({"result": encode(one)} for one in (*self.reads, result))]

    def commit(self, entries: list[JsonObject]) -> None:
        self.entries, self.place, self.reads = entries, len(entries), []


@dataclass(frozen=True)
class RecordedDatabase(ProjectDatabase):
    """Takes results from the journal as long as it has some. A handler's transactions follow one another."""

    request: Keyed
    journal: Journal

    async def read(
        self, action: Callable[Concatenate[ProjectTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        self.journal.is_used = True
        if self.journal.has_next:
            return self.journal.next()
        result = await super().read(action, *args, **kwargs)
        self.journal.reads.append(result)
        return result

    async def write(
        self, action: Callable[Concatenate[ProjectTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Raises KeyInUse when another execution took the request over."""
        self.journal.is_used = True
        if self.journal.has_next:
            return self.journal.next()

        def recorded(tx: ProjectTx) -> tuple[R, list[JsonObject]]:
            result = action(tx, *args, **kwargs)
            tx.session.flush()
            entries = self.journal.continued(result)
            record(tx, self.request, entries)
            return result, entries

        result, entries = await super().write(recorded)
        point("idempotency.committed")
        self.journal.commit(entries)
        return result


def encode(value: object) -> Any:
    """A result as JSON. Raises TypeError for what could not be told from it again."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [encode(each) for each in cast("list[object]", value)]
        case tuple():
            return {"tuple": [encode(each) for each in cast("tuple[object, ...]", value)]}
        case dict():
            return {"dict": to_jsonable_python(value)}
        case Row():
            return {type(value).__name__: values_of(value)}
        case Sent() if type(value).__name__ in SENT:
            return {type(value).__name__: value.model_dump(mode="json")}
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be recorded")


def decode(value: Any) -> Any:
    match value:
        case list():
            return [decode(each) for each in cast("list[Any]", value)]
        case {"tuple": each_of}:
            return tuple(decode(each) for each in each_of)
        case {"dict": plain}:
            return plain
        case dict():
            ((name, values),) = cast(JsonObject, value).items()  # so `encode` made it
            return (
                SENT[name].model_validate(values, by_name=True)
                if name in SENT
                else row_of(name, values)
            )
        case _:
            return value


def values_of(row: Row) -> JsonObject:
    """All columns of a row."""
    values: JsonObject = {}
    for one in inspect(type(row)).column_attrs:
        value, kind = getattr(row, one.key), one.columns[0].type
        values[one.key] = kind.to_json(value) if isinstance(kind, Json) else value
    return values


def row_of(name: str, values: JsonObject) -> Row:
    """A row as it was; it belongs to no session."""
    kind = ROWS[name]
    types = {one.key: one.columns[0].type for one in inspect(kind).column_attrs}
    typed: JsonObject = {}
    for key, value in values.items():
        column = types[key]
        typed[key] = column.from_json(value) if isinstance(column, Json) else value
    return kind(**typed)
