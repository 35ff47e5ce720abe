"""Keeps the snapshots of stores that are searched: brings them up to date by difference, forgets the least used."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import bindparam, select

from threadloom.db.database import Database
from threadloom.db.rows import VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.retrieval.index import StoreState
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.contents import Chunks, Contents, batches, read_contents
from threadloom.retrieval.index.preparing import Task, next_task, prepare
from threadloom.retrieval.index.segments import ChunkData, File, Segment, build_segments
from threadloom.retrieval.index.snapshots import Policy, Snapshot, arrange, replaced, settle

log = structlog.get_logger()

ReadChunks = Callable[[Tx, Sequence[File]], Chunks]
NOTHING = Snapshot(Contents(0, {}), ())
TRIES = 5
SWEEP_EVERY = 3600.0
STORES = select(VectorStoreRow.id).where(
    VectorStoreRow.id.in_(bindparam("store_ids", expanding=True))
)


@dataclass(frozen=True)
class Job:
    """A task in the background; the next search after its end takes what it made."""

    task: Task
    result: Future[Segment]


class Keeper:
    """One for each process. A snapshot is at least as new as what asks for it."""

    def __init__(
        self,
        database: Database,
        files: CacheFiles,
        memory: int,
        *,
        read: ReadChunks,
        policy: Policy,
    ) -> None:
        self._database = database
        self._files = files
        self._memory = memory
        self._read = read
        self._policy = policy
        self._held: OrderedDict[str, Snapshot] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._jobs: dict[str, Job] = {}
        self._failed: set[str] = set()
        self._background = ThreadPoolExecutor(1, "index")
        self._sweep_at = 0.0

    async def snapshot(self, store: StoreState) -> Snapshot:
        """What a search of the store sees."""
        held = self._held.get(store.id)
        if held and held.generation >= store.generation and not self._finished(store.id):
            self._held.move_to_end(store.id)
            return held
        # Whoever comes while the work is being done waits for it.
        async with self._locks.setdefault(store.id, asyncio.Lock()):
            await self._adopt(store.id)
            held = self._held.get(store.id)
            if held and held.generation >= store.generation:
                return held
            return await self._refresh(store.id)

    async def settled(self, store: StoreState) -> Snapshot:
        """The snapshot, when nothing is left to be done in the background."""
        snapshot = await self.snapshot(store)
        while job := self._jobs.get(store.id):
            await asyncio.to_thread(wait, [job.result])
            snapshot = await self.snapshot(store)
        return snapshot

    async def close(self) -> None:
        await asyncio.to_thread(self._background.shutdown, cancel_futures=True)

    async def _refresh(self, store_id: str) -> Snapshot:
        await self._sweep()
        for _ in range(TRIES):
            contents = await self._database.read(read_contents, store_id)
            if contents is None:
                self._forget(store_id)
                return NOTHING
            if not await self._advance(store_id, contents):
                break
        return self._held[store_id]

    async def _advance(self, store_id: str, contents: Contents) -> set[File]:
        """Take in what is new. Files that changed meanwhile are left out and returned."""
        segments = await self._segments(store_id)
        _, missing = await asyncio.to_thread(arrange, contents, segments)
        fresh, changed = await self._load(missing, contents)
        await self._settle(store_id, contents, [*segments, *fresh])
        return changed

    async def _segments(self, store_id: str) -> Sequence[Segment]:
        if held := self._held.get(store_id):
            return held.segments
        return await asyncio.to_thread(self._files.load, store_id)

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

    async def _settle(self, store_id: str, contents: Contents, segments: Sequence[Segment]) -> None:
        snapshot = await asyncio.to_thread(settle, contents, segments, self._policy)
        self._keep(store_id, snapshot)
        if store_id in self._jobs or store_id in self._failed:
            return
        if task := next_task(store_id, snapshot, self._policy):
            result = self._background.submit(prepare, task, self._files, self._policy)
            self._jobs[store_id] = Job(task, result)

    def _finished(self, store_id: str) -> bool:
        job = self._jobs.get(store_id)
        return job is not None and job.result.done()

    async def _adopt(self, store_id: str) -> None:
        """Take what the background has made, if it is done."""
        if not self._finished(store_id):
            return
        job, held = self._jobs.pop(store_id), self._held.get(store_id)
        if error := job.result.exception():
            log.error("index was not prepared", store_id=store_id, exc_info=error)
            self._failed.add(store_id)
        elif held:
            segments = replaced(held.segments, job.task.parts, job.result.result())
            await self._settle(store_id, held.contents, segments)

    def _keep(self, store_id: str, snapshot: Snapshot) -> None:
        self._held[store_id] = snapshot
        self._held.move_to_end(store_id)
        while len(self._held) > 1 and self.bytes > self._memory:
            self._forget(next(iter(self._held)))

    def _forget(self, store_id: str) -> None:
        self._held.pop(store_id, None)
        self._failed.discard(store_id)

    @property
    def bytes(self) -> int:
        return sum(snapshot.bytes for snapshot in self._held.values())

    async def _sweep(self) -> None:
        """Remove the files of stores that are gone, now and then."""
        if self._database.clock.now() < self._sweep_at:
            return
        self._sweep_at = self._database.clock.now() + SWEEP_EVERY
        kept = await asyncio.to_thread(self._files.store_ids)
        if kept:
            there = await self._database.read(existing, kept)
            await asyncio.to_thread(self._files.remove, set(kept) - there)
        await asyncio.to_thread(self._files.remove_unfinished, self._database.clock)


def existing(tx: Tx, store_ids: Sequence[str]) -> set[str]:
    return set(tx.session.scalars(STORES, {"store_ids": store_ids}))
