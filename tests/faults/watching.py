"""What processes, the database and the folder of an arena take up, as the machine tells it."""

import os
from pathlib import Path

from sqlalchemy import Engine, text

from tests.faults.case import TERMINAL
from tests.faults.history import Sample, Stock, now
from tests.faults.processes import Process
from threadloom.db.engine import is_sqlite

ENDED = ", ".join(f"'{status}'" for status in sorted(TERMINAL | {"requires_action"}))
WAITING = {
    "runs": f"status NOT IN ({ENDED})",
    "vector_store_files": "status = 'in_progress'",
    "webhook_deliveries": "status = 'pending'",
    "stray_blobs": "1 = 1",
    "stray_chunks": "1 = 1",
    "processes": "1 = 1",
}
"""Rows that somebody has to do something about, by table."""
COUNTS = text(
    " UNION ALL ".join(f"SELECT '{t}', count(*) FROM {t} WHERE {w}" for t, w in WAITING.items())
)
SIZE = text("SELECT pg_database_size(current_database())")
OURS = (".log", ".jsonl")
"""Endings of files that the suite itself writes."""


def sample_of(process: Process, name: str) -> Sample | None:
    """None when it is not there."""
    try:
        place = Path(f"/proc/{process.pid}")
        pages = int((place / "statm").read_text().split()[1])
        files, threads = (sum(1 for _ in (place / kind).iterdir()) for kind in ("fd", "task"))
        return Sample(name, now(), pages * os.sysconf("SC_PAGE_SIZE"), files, threads, process.pid)
    except (OSError, AssertionError, IndexError):
        return None


def stock_of(engine: Engine, folder: Path) -> Stock:
    """Raises SQLAlchemyError when the database does not answer."""
    with engine.connect() as connection:
        waiting = {table: int(count) for table, count in connection.execute(COUNTS)}
        at_rest = 0 if is_sqlite(engine) else int(connection.execute(SIZE).scalar_one())
    return Stock(now(), waiting, at_rest, bytes_in(folder))


def bytes_in(folder: Path) -> int:
    """Of all files there, SQLite's among them; some vanish meanwhile."""
    return sum(
        size_of(Path(where, name))
        for where, _, names in os.walk(folder)
        for name in names
        if not name.endswith(OURS)
    )


def size_of(file: Path) -> int:
    """What it takes of the disk."""
    try:
        return file.stat().st_blocks * 512
    except OSError:
        return 0
