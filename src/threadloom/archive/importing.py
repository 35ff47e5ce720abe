"""An import from its beginning to its end: files, vector stores, assistants, then threads with what is in them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy.exc import IntegrityError

from threadloom import faults
from threadloom.archive.contents import Contents, NoContent, Storage, look_at_files, store_file
from threadloom.archive.history import SavedRun, SavedStep
from threadloom.archive.reading import KINDS
from threadloom.archive.report import Report
from threadloom.archive.saved import (
    SavedAssistant,
    SavedMessage,
)
from threadloom.archive.saved_files import (
    SavedFile,
    SavedStore,
    SavedStoreFile,
)
from threadloom.archive.spool import Spool, Spooled
from threadloom.archive.storing import (
    Item,
    Outcome,
    ThreadPart,
    store_files_in_stores,
    store_plain,
    store_threads,
)
from threadloom.db.tx import ProjectTx

T = TypeVar("T")
BATCH = 500
"""Objects in a transaction: it takes some tens of milliseconds, and SQLite has one writer."""
TRIES = 3
PARTS = (SavedMessage, SavedRun, SavedStep)


class Store(Protocol):
    """An action that adds objects of one kind."""

    def __call__(
        self, tx: ProjectTx, items: Sequence[Item], known: AbstractSet[str], *, write: bool
    ) -> Outcome: ...


@dataclass(frozen=True)
class Import:
    """What is imported, and where to. `advance` is told how many objects are done."""

    spool: Spool
    contents: Contents
    storage: Storage
    report: Report
    advance: Callable[[int], None]

    async def run(self) -> None:
        """All of it; with `report.dry_run` nothing is written, and the report is the same."""
        await self._files()
        await self._plain(SavedStore, store_plain)
        await self._plain(SavedStoreFile, store_files_in_stores)
        await self._plain(SavedAssistant, store_plain)
        for threads in batches_of_threads(self.spool):
            items = [item for one in threads for item in one.items]
            known = self._known([*items], [one.thread_id for one in threads])
            self._note(await self._do(store_threads, threads, known))
            self.advance(len(items))
        for path, reason in self.spool.unread():
            self.report.skip("entries", "", path, reason)

    async def _plain(self, kind: Any, store: Store) -> None:
        for items in in_batches(map(item_of, self.spool.of_kind(kind.kind)), BATCH):
            self._note(await self._do(store, items, self._known(items, ())))
            self.advance(len(items))

    def _known(self, items: Sequence[Item], others: Sequence[str]) -> set[str]:
        """What the archive has of all that is named."""
        named = {each for item in items for each in (item.saved.parent, *item.saved.named())}
        files = {item.saved.id for item in items if isinstance(item.saved, SavedStoreFile)}
        return self.spool.known([*named, *files, *others])

    async def _do(
        self, store: Callable[..., Outcome], batch: Sequence[T], known: AbstractSet[str]
    ) -> Outcome:
        faults.point("import.storing")
        if self.report.dry_run:
            return await self.storage.project.read(store, batch, known, write=False)
        for _ in range(TRIES - 1):
            try:
                return await self.storage.project.write(store, batch, known, write=True)
            except IntegrityError:  # somebody else just made the same objects: look again
                continue
        return await self.storage.project.write(store, batch, known, write=True)

    def _note(self, outcome: Outcome) -> None:
        report = self.report
        report.imported.update(one.plural for one in outcome.imported)
        report.present.update(one.plural for one in outcome.present)
        for item, reason in outcome.skipped:
            report.skip(item.saved.plural, item.saved.id, item.location, reason)
        for object_id in outcome.missing:
            report.miss(object_id)
        for thread_id in outcome.made:
            report.note(f"{thread_id} was not saved: it is made for what is in it")

    async def _files(self) -> None:
        """Each file in a transaction of its own, once its bytes are stored."""
        places: dict[str, list[Item]] = {}
        for items in in_batches(map(item_of, self.spool.of_kind(SavedFile.kind)), BATCH):
            outcome, new = await self.storage.project.read(look_at_files, items)
            self._note(outcome)
            self.advance(len(items) - len(new))
            for item_id in {one.saved.id for one in items} - {one.saved.id for one in new}:
                self.spool.pass_over(item_id)
            for item in new:
                try:
                    places.setdefault(self._place(item), []).append(item)
                except NoContent as error:
                    self._without(item, str(error))
        for place, pieces in self.contents.each(list(places)):
            for item in places[place]:
                try:
                    if not self.report.dry_run:
                        await store_file(self.storage, item, pieces)
                except NoContent as error:
                    self._without(item, str(error))
                else:
                    self.report.imported[SavedFile.plural] += 1
                    self.advance(1)

    def _place(self, item: Item) -> str:
        saved = item.saved
        assert isinstance(saved, SavedFile)
        if saved.bytes > self.storage.max_bytes:
            raise NoContent(f"it is larger than {self.storage.max_bytes} bytes (files.max_bytes)")
        return self.contents.find(saved)

    def _without(self, item: Item, reason: str) -> None:
        self.report.skip(SavedFile.plural, item.saved.id, item.location, reason)
        self.spool.forget(item.saved.key)
        self.advance(1)


def item_of(spooled: Spooled) -> Item:
    value = orjson.loads(spooled.body)
    return Item(KINDS[value["object"]].model_validate(value, extra="ignore"), spooled.location)


def batches_of_threads(spool: Spool) -> Iterator[list[ThreadPart]]:
    """Threads and what is in them, some at a time; only a thread with more than `BATCH` objects comes in several batches."""
    batch: list[ThreadPart] = []
    size = 0
    for part in thread_parts(spool):
        if batch and size + len(part.items) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part.items)
    if batch:
        yield batch


def thread_parts(spool: Spool) -> Iterator[ThreadPart]:
    for thread_id, began in spool.threads():
        own = spool.find(thread_id)
        thread = None if own is None else item_of(own)
        parts = in_batches(parts_of(spool, thread_id), BATCH)
        yield ThreadPart(thread_id, began, thread, next(parts, list[Item]()), is_first=True)
        for more in parts:
            yield ThreadPart(thread_id, began, thread, more, is_first=False)


def parts_of(spool: Spool, thread_id: str) -> Iterator[Item]:
    for kind in PARTS:
        yield from map(item_of, spool.of_parent(kind.kind, thread_id))


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
