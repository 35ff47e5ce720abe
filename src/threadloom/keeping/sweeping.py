"""What a worker does each minute so that nothing is kept longer than it should be."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from threadloom.blobs import Blobs
from threadloom.config import Retention
from threadloom.db.database import Database
from threadloom.db.wal import empty_log
from threadloom.files.sweeping import sweep as sweep_files
from threadloom.keeping.retention import RetentionSweep
from threadloom.keeping.traces import TRACES, Rounds
from threadloom.retrieval.sweeping import IndexSweep
from threadloom.retrieval.sweeping import sweep as sweep_stores


class Keeping:
    """One for each process that works; any number may sweep at once."""

    def __init__(
        self, database: Database, blobs: Blobs, settings: Retention, data_dir: Path
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._retention = RetentionSweep(database, settings)
        self._traces = [Rounds(database, step) for step in TRACES]
        self._indexes = IndexSweep(database, data_dir / "index")

    @property
    def steps(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name. First what is too old, then what was left over by that and by others."""
        return {
            "retention": self._retention.sweep,
            "files": partial(sweep_files, self._database, self._blobs),
            "vector stores": partial(sweep_stores, self._database),
            "indexes": self._indexes.sweep,
            "traces": self._sweep_traces,
            "log of SQLite": self._empty_log,
        }

    async def _sweep_traces(self) -> None:
        for trace in self._traces:
            await trace.sweep()

    async def _empty_log(self) -> None:
        await asyncio.to_thread(empty_log, self._database.engine)
