"""One time for all processes: PostgreSQL's."""

import time

from sqlalchemy import Connection, Engine, event

from threadloom.db.engine import is_sqlite

LOOK_EVERY = 10.0
QUICK = 0.1
"""Seconds that a look may take to be believed: half of them is its error."""


class DatabaseClock:
    """PostgreSQL's clock, and between two looks at it this machine's steady one, which never jumps.

    Leases and expiries are times that one process writes and others compare with theirs: where a machine's clock is wrong by an
    hour, its worker would take all runs from the others, and end them as expired. On SQLite there is one machine, and its clock.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._look_at = 0.0

    def now(self) -> float:
        if self._offset is None:
            return time.time()  # noqa: TID251 - this is a clock
        return self._offset + time.monotonic()

    def follow(self, engine: Engine) -> None:
        """Look at this database's clock when a transaction begins, now and then."""
        if not is_sqlite(engine):
            event.listen(engine, "begin", self.look)

    def look(self, connection: Connection) -> None:
        """Ask for the time, if it is time for that."""
        began = time.monotonic()
        if began < self._look_at:
            return
        there: float = connection.exec_driver_sql(
            "SELECT extract(epoch FROM clock_timestamp())::float8"
        ).scalar_one()
        ended = time.monotonic()
        if ended - began < QUICK or self._offset is None:
            self._offset = there - (began + ended) / 2
            self._look_at = ended + LOOK_EVERY
