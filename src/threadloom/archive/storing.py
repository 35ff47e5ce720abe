"""The second pass: objects become rows, a batch in each transaction. What is there already stays as it is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sqlalchemy import func, select

from threadloom.archive.history import SavedStep
from threadloom.archive.saved import (
    Saved,
    SavedMessage,
    SavedThread,
)
from threadloom.archive.saved_files import (
    SavedStoreFile,
)
from threadloom.db.insert import insert_row
from threadloom.db.rows import (
    IS_ACTIVE,
    AssistantRow,
    FileRow,
    MessageRow,
    Owned,
    RunRow,
    ThreadRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from threadloom.db.tx import ProjectTx
from threadloom.retrieval.stores import INGESTION, MAX_FILES, is_expired

ELSEWHERE = "its id belongs to another project"
DIFFERS = "it is there already, and differs: it stays as it is"
BY_PREFIX: Mapping[str, type[Owned]] = {
    "asst_": AssistantRow,
    "thread_": ThreadRow,
    "msg_": MessageRow,
    "run_": RunRow,
    "vs_": VectorStoreRow,
    "file": FileRow,
    "assistant-": FileRow,
}


@dataclass(frozen=True)
class Item:
    """An object and where it was found."""

    saved: Saved
    location: str


@dataclass(frozen=True)
class ThreadPart:
    """A thread, or as much of it as a transaction takes. `thread` is None where only its parts were saved."""

    thread_id: str
    began: int
    thread: Item | None
    parts: Sequence[Item]
    is_first: bool

    @property
    def items(self) -> list[Item]:
        own = [self.thread] if self.thread is not None and self.is_first else []
        return [*own, *self.parts]


@dataclass
class Outcome:
    """What became of a batch, to be reported once it is committed."""

    imported: list[Saved] = field(default_factory=list[Saved])
    present: list[Saved] = field(default_factory=list[Saved])
    skipped: list[tuple[Item, str]] = field(default_factory=list[tuple[Item, str]])
    missing: list[str] = field(default_factory=list[str])
    made: list[str] = field(default_factory=list[str])


class Batch:
    """One transaction of an import: it finds out what is there, and with `write` adds what is not.

    `known` are the ids of the archive among those that are named.
    """

    def __init__(self, tx: ProjectTx, known: AbstractSet[str], *, write: bool) -> None:
        self.outcome = Outcome()
        self._tx = tx
        self._known = known
        self.write = write
        self.project_id = tx.project_id
        self._owners: dict[str, str] = {}

    def look(self, items: Sequence[Item]) -> list[Item]:
        """Those of the items that are not there yet and may be added."""
        there = rows_of(self._tx, items)
        named = {each for item in items for each in (item.saved.parent, *item.saved.named())}
        self._owners = owners_of(self._tx, named)
        return [item for item in items if self._is_new(item, there.get(item.saved.key))]

    def _is_new(self, item: Item, row: Owned | None) -> bool:
        own = self._tx.project_id
        if row is None:
            foreign = [one for one in item.saved.named() if self._owners.get(one, own) != own]
            if not foreign:
                return True
            self.skip(item, f"it names {foreign[0]}, which belongs to another project")
        elif row.project_id != own:
            self.skip(item, ELSEWHERE)
        elif is_same(row, item.saved, self._tx.now):
            self.outcome.present.append(item.saved)
        else:
            self.skip(item, DIFFERS)
        return False

    def add(self, item: Item) -> None:
        self.outcome.imported.append(item.saved)
        self.outcome.missing.extend(one for one in item.saved.named() if not self.is_known(one))
        if self.write:
            values = item.saved.values(self._tx.clock.now())
            row = item.saved.row(project_id=self._tx.project_id, **values)
            insert_row(self._tx.session, row)

    def skip(self, item: Item, reason: str) -> None:
        self.outcome.skipped.append((item, reason))

    def is_known(self, object_id: str) -> bool:
        """Whether it is in the archive, or in the project already."""
        return object_id in self._known or object_id in self._owners

    def owner(self, object_id: str) -> str | None:
        return self._owners.get(object_id)


def rows_of(tx: ProjectTx, items: Iterable[Item]) -> dict[str, Owned]:
    """What has these ids already, in whichever project."""
    by_kind: defaultdict[type[Owned], list[str]] = defaultdict(list)
    for item in items:
        by_kind[item.saved.row].append(item.saved.key)
    found = (
        row
        for kind, keys in by_kind.items()
        for row in tx.session.scalars(select(kind).where(kind.id.in_(keys)))
    )
    return {row.id: row for row in found}


def owners_of(tx: ProjectTx, ids: Iterable[str]) -> dict[str, str]:
    """The projects of those objects that are in the database."""
    by_kind: defaultdict[type[Owned], list[str]] = defaultdict(list)
    for one in ids:
        for prefix, kind in BY_PREFIX.items():
            if one.startswith(prefix):
                by_kind[kind].append(one)
    found: dict[str, str] = {}
    for kind, keys in by_kind.items():
        rows = tx.session.execute(select(kind.id, kind.project_id).where(kind.id.in_(keys)))
        found.update((row.id, row.project_id) for row in rows)
    return found


def is_same(row: Owned, saved: Saved, now: int) -> bool:
    values = saved.values(now)
    return all(getattr(row, name) == values[name] for name in saved.compared or values)


def store_plain(
    tx: ProjectTx, items: Sequence[Item], known: AbstractSet[str], *, write: bool
) -> Outcome:
    """Assistants and vector stores, which are part of nothing."""
    batch = Batch(tx, known, write=write)
    for item in batch.look(items):
        batch.add(item)
    return batch.outcome


def store_files_in_stores(
    tx: ProjectTx, items: Sequence[Item], known: AbstractSet[str], *, write: bool
) -> Outcome:
    """Files in vector stores: they are queued, and workers take them in again."""
    batch = Batch(tx, known, write=write)
    new = batch.look(items)
    files = dict.fromkeys(known, tx.project_id) | owners_of(tx, (item.saved.id for item in new))
    room = room_in(tx, {item.saved.parent for item in new})
    for item in new:
        saved = item.saved
        assert isinstance(saved, SavedStoreFile)
        # An id that the archive has counts for nothing where the file of that id is another project's.
        if files.get(saved.id) != tx.project_id:
            batch.skip(item, "the file itself is not there")
        elif saved.parent not in known and batch.owner(saved.parent) != tx.project_id:
            batch.skip(item, "its vector store is not there")
        elif batch.owner(saved.parent) not in {None, tx.project_id}:
            batch.skip(item, ELSEWHERE)
        elif not room.get(saved.parent, MAX_FILES):
            batch.skip(item, "its vector store has expired, or is full")
        else:
            room[saved.parent] = room.get(saved.parent, MAX_FILES) - 1
            batch.add(item)
    tx.wake(INGESTION)
    return batch.outcome


def room_in(tx: ProjectTx, store_ids: AbstractSet[str]) -> dict[str, int]:
    """How many more files each of the vector stores takes; they stay as they are until the commit."""
    own = VectorStoreRow.project_id == tx.project_id
    locked = select(VectorStoreRow).where(VectorStoreRow.id.in_(store_ids), own)
    stores = tx.session.scalars(
        locked.order_by(VectorStoreRow.seq).with_for_update(key_share=True)
    ).all()
    of_store = VectorStoreFileRow.vector_store_id
    counts = dict(
        tx.session.execute(
            select(of_store, func.count()).where(of_store.in_(store_ids)).group_by(of_store)
        ).all()
    )
    return {
        one.id: 0 if is_expired(one, tx.now) else MAX_FILES - counts.get(one.id, 0)
        for one in stores
    }


def store_threads(
    tx: ProjectTx, threads: Sequence[ThreadPart], known: AbstractSet[str], *, write: bool
) -> Outcome:
    """Threads with what is in them. Messages are only ever put after those that a thread has."""
    if write:
        lock_threads(tx, [one.thread_id for one in threads])
    batch = Batch(tx, known, write=write)
    new = {item.saved.key for item in batch.look([item for one in threads for item in one.items])}
    ends = ends_of(tx, [one.thread_id for one in threads])
    for one in threads:
        problem = add_thread(batch, one, new)
        for item in one.parts:
            if item.saved.key in new:
                reason = problem or misplaced(batch, item, ends.get(one.thread_id))
                batch.skip(item, reason) if reason else batch.add(item)
    return batch.outcome


def add_thread(batch: Batch, one: ThreadPart, new: AbstractSet[str]) -> str | None:
    """The thread itself, made of nothing if only its parts were saved. Answers why its parts cannot be added."""
    owner = batch.owner(one.thread_id)
    if owner is not None:
        return None if owner == batch.project_id else "its thread belongs to another project"
    if not one.is_first:
        return "its thread is not there" if batch.write else None
    if one.thread is None:
        empty = SavedThread(id=one.thread_id, created_at=one.began)
        batch.outcome.made.append(one.thread_id)
        batch.add(Item(empty, ""))
    elif one.thread_id in new:
        batch.add(one.thread)
    else:
        return "its thread is not imported"
    return None


@dataclass(frozen=True)
class End:
    """What a thread of the database has: when its newest message came, and whether a run is active."""

    newest: int | None
    busy: bool


def misplaced(batch: Batch, item: Item, end: End | None) -> str | None:
    """Why a part cannot be added to its thread."""
    match item.saved:
        case SavedStep() as step if not batch.is_known(step.run_id):
            return "its run is not there"
        case SavedMessage() if end is not None and end.busy:
            return "a run is active in its thread"
        case SavedMessage() as message if (
            end is not None and (end.newest or 0) > message.created_at
        ):
            return "its thread has newer messages already, and order is kept"
        case _:
            return None


def lock_threads(tx: ProjectTx, thread_ids: Sequence[str]) -> None:
    """No client adds a message meanwhile."""
    locked = select(ThreadRow.id).where(ThreadRow.id.in_(thread_ids)).order_by(ThreadRow.seq)
    tx.session.execute(locked.with_for_update(key_share=True)).all()


def ends_of(tx: ProjectTx, thread_ids: Sequence[str]) -> dict[str, End]:
    newest = dict(
        tx.session.execute(
            select(MessageRow.thread_id, func.max(MessageRow.created_at))
            .where(MessageRow.thread_id.in_(thread_ids))
            .group_by(MessageRow.thread_id)
        ).all()
    )
    active = select(RunRow.thread_id).where(RunRow.thread_id.in_(thread_ids), IS_ACTIVE)
    busy = set(tx.session.scalars(active))
    return {one: End(newest.get(one), one in busy) for one in newest.keys() | busy}
