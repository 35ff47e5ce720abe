"""Keeps the snapshots of stores that are searched: brings them up to date by difference, forgets the least used."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from threadloom.db.database import Database
from threadloom.db.tx import Tx
from threadloom.retrieval.index import StoreState
from threadloom.retrieval.index.contents import (
    Chunks,
    Contents,
    batches,
    read_contents,
)
from threadloom.retrieval.index.segments import ChunkData, File, Segment, build_segments
from threadloom.retrieval.index.snapshots import Snapshot, arrange, settle

ReadChunks = Callable[[Tx, Sequence[File]], Chunks]
NOTHING = Snapshot(Contents(0, {}), ())
TRIES = 5


class Keeper:
    """One for each process. A snapshot is at least as new as what asks for it."""

    def __init__(self, database: Database, memory: int, read: ReadChunks) -> None:
        self._database = database
        self._memory = memory
        self._read = read
        self._held: OrderedDict[str, Snapshot] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def snapshot(self, store: StoreState) -> Snapshot:
        if held := self._fresh(store):
            return held
        # Whoever comes while the work is being done waits for it.
        async with self._locks.setdefault(store.id, asyncio.Lock()):
            return self._fresh(store) or await self._refresh(store.id)

    def _fresh(self, store: StoreState) -> Snapshot | None:
        held = self._held.get(store.id)
        if held is None or held.generation < store.generation:
            return None
        self._held.move_to_end(store.id)
        return held

    async def _refresh(self, store_id: str) -> Snapshot:
        for _ in range(TRIES):
            contents = await self._database.read(read_contents, store_id)
            if contents is None:
                self._held.pop(store_id, None)
                return NOTHING
            if not await self._advance(store_id, contents):
                break
        return self._held[store_id]

    async def _advance(self, store_id: str, contents: Contents) -> set[File]:
        """Take in what is new. Files that changed meanwhile are left out and returned."""
        held = self._held.get(store_id, NOTHING)
        _, missing = await asyncio.to_thread(arrange, contents, held.segments)
        fresh, changed = await self._load(missing, contents)
        snapshot = await asyncio.to_thread(settle, contents, [*held.segments, *fresh])
        self._keep(store_id, snapshot)
        return changed

    async def _load(
        self, missing: Sequence[File], contents: Contents
    ) -> tuple[list[Segment], set[File]]:
        rows: list[ChunkData] = []
        changed: set[File] = set()
        for batch in batches(missing, contents.files):
            chunks = await self._database.read(self._read, batch)
            rows += chunks.rows
            changed |= chunks.changed
        files = [file for file in missing if file not in changed]
        return await asyncio.to_thread(build_segments, files, rows), changed

    def _keep(self, store_id: str, snapshot: Snapshot) -> None:
        self._held[store_id] = snapshot
        self._held.move_to_end(store_id)
        while len(self._held) > 1 and self.bytes > self._memory:
            self._held.popitem(last=False)

    @property
    def bytes(self) -> int:
        return sum(snapshot.bytes for snapshot in self._held.values())
