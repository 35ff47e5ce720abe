"""When a worker was last seen, asked without the rows: a health check is a new process every few seconds."""

from sqlalchemy import Engine, TextClause, text

from threadloom.db.clock import DatabaseClock
from threadloom.db.engine import connect

ALIVE_FOR = 35.0
"""Three beats may be missed: by a database that is away, or a machine that stands still."""
LAST: TextClause = text(
    "SELECT max(seen_at) FROM processes WHERE host = :host AND kind IN ('worker', 'both')"
)


def seconds_since_worker(engine: Engine, host: str) -> float | None:
    """Since any worker of this host was seen; None when none is known. Raises SQLAlchemyError."""
    clock = DatabaseClock()
    clock.follow(engine)
    with connect(engine) as connection, connection.begin():
        seen: float | None = connection.execute(LAST, {"host": host}).scalar()
        return None if seen is None else clock.now() - seen
