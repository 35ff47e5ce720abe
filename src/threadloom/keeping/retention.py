"""Deletes what is old: a little each minute as `retention.*` says, or all of it at once when an operator asks."""

from collections.abc import Mapping

import structlog

from threadloom.config import Retention
from threadloom.db.database import Database
from threadloom.keeping.aging import KINDS, Found, Scope, What

ROUNDS = 20
"""Looks at each kind in a minute."""
log = structlog.get_logger()


class RetentionSweep:
    """Goes through all rows again and again, each time from where it stopped. Any number of processes may do so at once."""

    def __init__(self, database: Database, settings: Retention) -> None:
        self._database = database
        self._kept: Mapping[What, float | None] = {
            "threads": settings.threads,
            "files": settings.files,
            "vector_stores": settings.vector_stores,
            "usage": settings.usage,
        }
        self._places: dict[What, int] = {}

    async def sweep(self) -> None:
        """A bounded share of what there is."""
        for what, kept in self._kept.items():
            if kept is not None:
                scope = Scope(self._database.clock.now() - kept)
                if removed := await self._look_through(what, scope):
                    log.info("retention", what=what, removed=removed)

    async def _look_through(self, what: What, scope: Scope) -> int:
        removed = 0
        for _ in range(ROUNDS):
            found = await self._database.read(KINDS[what].find, scope, self._places.get(what, 0))
            removed += await remove(self._database, what, scope, found)
            self._places[what] = found.place or 0
            if found.place is None:
                break
        return removed


async def remove(database: Database, what: What, scope: Scope, found: Found) -> int:
    """Answers with how many of them went."""
    kind = KINDS[what]
    removed = 0
    for start in range(0, len(found.keys), kind.together):
        some = found.keys[start : start + kind.together]
        removed += await database.write(kind.remove, scope, some)
    return removed


async def purge(database: Database, what: What, scope: Scope, *, dry_run: bool) -> int:
    """All that is old, or how much there is of it."""
    count = 0
    place: int | None = 0
    while place is not None:
        found = await database.read(KINDS[what].find, scope, place)
        count += len(found.keys) if dry_run else await remove(database, what, scope, found)
        place = found.place
    return count
