"""What was found, on disk: sorted and looked up there, because an archive may be larger than memory."""

import secrets
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadloom.archive.documents import Found
from threadloom.archive.entries import natural
from threadloom.archive.saved import Saved

SCHEMA = """
    CREATE TABLE objects (
        key TEXT PRIMARY KEY, kind TEXT, parent TEXT, created_at INT,
        newest_first INT, page TEXT, place INT, location TEXT, body TEXT
    );
    CREATE INDEX parts ON objects (kind, parent);
    CREATE TABLE contents (
        path TEXT PRIMARY KEY, name TEXT, folder TEXT, size INT, owner TEXT, reason TEXT, used INT
    ) WITHOUT ROWID;
    CREATE INDEX named ON contents (name);
    CREATE INDEX placed ON contents (folder);
    CREATE INDEX owned ON contents (owner);
"""
ORDER = """
    created_at, CASE newest_first WHEN 0 THEN page END, CASE newest_first WHEN 1 THEN page END DESC, place
"""
"""Of several in one second the page's order decides, and the order of pages by their names."""
OF_KIND = "SELECT key, location, body FROM objects WHERE kind = ? ORDER BY"
OF_PARENT = "SELECT key, location, body FROM objects WHERE kind = ? AND parent = ? ORDER BY"
LOOKED_UP = 500


@dataclass(frozen=True)
class Spooled:
    """An object, and where it was found."""

    key: str
    location: str
    body: str


class Spool:
    """Objects by kind, in the order in which they are to be stored; and the entries that may be contents of files."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        self._place = 0

    def add(self, saved: Saved, body: str, found: Found) -> str | None:
        """Keep it; an earlier one with the same id stays, and what this answers says so if they differ."""
        self._place += 1
        place = -self._place if found.newest_first else self._place
        page = natural(found.where.rpartition(":")[0] or found.where)
        values = (
            *(saved.key, saved.kind, saved.parent, saved.created_at),
            *(found.newest_first, page, place, found.where, body),
        )
        added = self._sql.execute(
            "INSERT OR IGNORE INTO objects VALUES (?,?,?,?,?,?,?,?,?)", values
        )
        if added.rowcount:
            return None
        old = self._sql.execute("SELECT body FROM objects WHERE key = ?", (saved.key,)).fetchone()
        return (
            None if old[0] == body else "it is there twice, and the two differ: the first is taken"
        )

    def add_content(
        self, path: str, size: int, *, owner: str | None = None, reason: str | None = None
    ) -> None:
        """An entry that may be the content of a file: of `owner`, if it bears its id. The reason tells why it was not read else."""
        folder, _, name = path.rpartition("/")
        values = (path, name, folder.rpartition("/")[2], size, owner, reason)
        self._sql.execute("INSERT OR IGNORE INTO contents VALUES (?,?,?,?,?,?,0)", values)

    def use_content(self, path: str) -> None:
        """It is the content of a file, and may be that of others: people keep one original of what they uploaded often."""
        self._sql.execute("UPDATE contents SET used = 1 WHERE path = ?", (path,))

    def pass_over(self, file_id: str) -> None:
        """What bears this file's id is not asked for, and that is no fault of it: the file is there already, or is left out."""
        self._sql.execute("UPDATE contents SET used = 1 WHERE owner = ?", (file_id,))

    def has_file(self, file_id: str) -> bool:
        found = self._sql.execute("SELECT kind FROM objects WHERE key = ?", (file_id,)).fetchone()
        return found == ("file",)

    def unread(self) -> list[tuple[str, str]]:
        """JSON that is neither objects nor the content of a file, and why."""
        return self._sql.execute(
            "SELECT path, reason FROM contents WHERE reason IS NOT NULL AND NOT used"
        ).fetchall()

    def forget(self, key: str) -> None:
        """It is not imported: for those that name it, it is not there."""
        self.pass_over(key)
        self._sql.execute("DELETE FROM objects WHERE key = ?", (key,))

    def forget_whole(self, key: str) -> None:
        """A thread or vector store, and what is in it."""
        self._sql.execute("DELETE FROM objects WHERE key = ? OR parent = ?", (key,) * 2)

    def quiet_threads(self, before: float) -> list[tuple[str, str]]:
        """Threads in which nothing was since then, and where they were found."""
        statement = """
            SELECT CASE parent WHEN '' THEN key ELSE parent END AS thread, min(location) FROM objects
            WHERE kind IN ('thread', 'thread.message', 'thread.run')
            GROUP BY thread HAVING max(created_at) < ?
        """
        return self._sql.execute(statement, (before,)).fetchall()

    def count(self) -> int:
        return self._sql.execute("SELECT count(*) FROM objects").fetchone()[0]

    def of_kind(self, kind: str) -> Iterator[Spooled]:
        """All of a kind, oldest first."""
        statement = OF_KIND + ORDER
        with closing(self._sql.cursor()) as cursor:
            for row in cursor.execute(statement, (kind,)):
                yield Spooled(*row)

    def of_parent(self, kind: str, parent: str) -> Iterator[Spooled]:
        """The parts of one thread, oldest first."""
        statement = OF_PARENT + ORDER
        with closing(self._sql.cursor()) as cursor:
            for row in cursor.execute(statement, (kind, parent)):
                yield Spooled(*row)

    def threads(self) -> Iterator[tuple[str, int]]:
        """The ids of all threads, also of those that only their messages and runs name, oldest first, and when they began."""
        statement = """
            SELECT key, created_at FROM (
            SELECT key, created_at, newest_first, page, place FROM objects WHERE kind = 'thread'
            UNION ALL
            SELECT parent, min(created_at), newest_first, page, place FROM objects AS part
            WHERE kind IN ('thread.message', 'thread.run', 'thread.run.step')
            AND NOT EXISTS (SELECT 1 FROM objects WHERE key = part.parent)
            GROUP BY parent)
        """
        statement += f"ORDER BY {ORDER}"
        with closing(self._sql.cursor()) as cursor:
            yield from cursor.execute(statement)

    def find(self, key: str) -> Spooled | None:
        row = self._sql.execute("SELECT key, location, body FROM objects WHERE key = ?", (key,))
        return next((Spooled(*one) for one in row), None)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those that are in the archive."""
        found: set[str] = set()
        for start in range(0, len(keys), LOOKED_UP):
            some = keys[start : start + LOOKED_UP]
            marks = ",".join("?" * len(some))
            rows = self._sql.execute(f"SELECT key FROM objects WHERE key IN ({marks})", some)  # noqa: S608 - only marks
            found.update(row[0] for row in rows)
        return found

    def contents_like(self, prefix: str) -> list[tuple[str, int]]:
        """Entries whose name begins so; here and below those come first that are no file's content yet."""
        statement = (
            "SELECT path, size FROM contents WHERE name >= ? AND name < ? ORDER BY used, path"
        )
        return self._sql.execute(statement, (prefix, prefix + "\U0010ffff")).fetchall()

    def contents_named(self, name: str) -> list[tuple[str, int]]:
        statement = "SELECT path, size FROM contents WHERE name = ? ORDER BY used, path"
        return self._sql.execute(statement, (name,)).fetchall()

    def contents_in(self, folder: str) -> list[tuple[str, int]]:
        """Entries of a folder of this name, wherever that is."""
        statement = "SELECT path, size FROM contents WHERE folder = ? ORDER BY used, path"
        return self._sql.execute(statement, (folder,)).fetchall()


@contextmanager
def open_spool(directory: Path) -> Generator[Spool]:
    """A file that has no name any more once it is open: nothing stays of it, however the process ends."""
    path = directory / f".import-{secrets.token_hex(8)}"
    # Database threads read it while they write their own: never two at once.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA)
        connection.execute("BEGIN")
        path.unlink()
        yield Spool(connection)
    finally:
        connection.close()
