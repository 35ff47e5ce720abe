"""Transactions of processes that stand still: they keep their rows locked, and nobody else can go on with them.

PostgreSQL is told to end them by itself (`POSTGRES_IDLE`); now and then it was seen not to, so workers look as well.
"""

from sqlalchemy import text

from threadloom.db.engine import is_sqlite
from threadloom.db.tx import Tx

END_FROZEN = text(
    """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'threadloom'
        AND state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    """
)

FROZEN_AFTER = 6.0
"""Seconds: PostgreSQL's own bound and a little more."""


def end_frozen(tx: Tx, seconds: float = FROZEN_AFTER) -> None:
    """End our transactions in which nothing has happened for so long."""
    connection = tx.session.connection()
    if not is_sqlite(connection.engine):
        connection.execute(END_FROZEN, {"seconds": seconds})
