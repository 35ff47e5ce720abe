"""What a disk may hold when the power goes: SQLite's files at one moment, its log cut off at any byte, and what SQLite makes of them.

Commits are not synced one by one (`synchronous = NORMAL`): the last ones may be lost with the power, but never a part of one, and none
before another. What the process alone loses, by `kill -9`, is nothing.
"""

import hashlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tests.faults.answer_rules import lost
from tests.faults.case import Bounds, Case
from tests.faults.final import read_final
from tests.faults.history import History, Request
from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade

NAME = "threadloom.db"
PARTS = ("", "-wal", "-shm")
LOG_HEADER, FRAME_HEADER = 32, 24
SALT = slice(16, 24)
"""Of the log's header; frames that have another are of the time before it was begun anew."""
BACKFILL = slice(128, 132)
"""Of the shared memory: how many frames may be in the database's file already. They were synced before."""
CUTS = 12
"""Frames of a picture after which it is tried: there, a byte later, and a byte before the end of the next one."""


@dataclass(frozen=True)
class Picture:
    """A folder with SQLite's files of one moment, by the clock of the history."""

    folder: Path
    at: float


class Frame(NamedTuple):
    """A page in the log. `pages` is the database's length after the commit that ends with it, 0 in its midst."""

    page: int
    pages: int
    content: bytes


def take(path: Path, folder: Path, at: float) -> Picture:
    """Of the database at that path: nobody may write meanwhile."""
    folder.mkdir(parents=True)
    for part in PARTS:
        shutil.copy(f"{path}{part}", folder / f"{NAME}{part}")
    return Picture(folder, at)


def judge(picture: Picture, history: History) -> Iterator[str]:
    """What is wrong with what is found after a crash, and after power cuts at any byte of the log."""
    database = (picture.folder / NAME).read_bytes()
    log = (picture.folder / f"{NAME}-wal").read_bytes()
    shared = (picture.folder / f"{NAME}-shm").read_bytes()
    frames = frames_of(log)
    size = FRAME_HEADER + page_size(database)
    synced = int.from_bytes(shared[BACKFILL], "little")
    places = cuts(synced, len(frames))
    for number, state in enumerate(states_of(database, frames)):
        if number in places:
            whole = LOG_HEADER + number * size
            for end in (whole, whole + 1, whole + size - 1):
                # A file may have got its length before its bytes.
                for rest in (b"", b"\0" * size):
                    left = log[:end] + rest
                    if not has_next(left, log, whole, size):
                        yield from opened(database, left, digest_of(state))
    yield from forgotten(picture, history)


def has_next(left: bytes, log: bytes, whole: int, size: int) -> bool:
    """Whether the frame after so many bytes is there all the same, because what was cut from it were zeros."""
    following = log[whole : whole + size]
    return len(following) == size and left[whole : whole + size] == following


def cuts(synced: int, frames: int) -> set[int]:
    """Numbers of frames that are left: the least and the most, and some between."""
    between = range(synced, frames + 1)
    return {synced, frames, *random.sample(between, min(CUTS, len(between)))}


def frames_of(log: bytes) -> list[Frame]:
    """Those of the log as it is now."""
    size = int.from_bytes(log[8:12], "big")
    found: list[Frame] = []
    for start in range(LOG_HEADER, len(log) - FRAME_HEADER - size + 1, FRAME_HEADER + size):
        head = log[start : start + FRAME_HEADER]
        if head[8:16] != log[SALT]:
            break
        page, pages = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
        content = log[start + FRAME_HEADER : start + FRAME_HEADER + size]
        found.append(Frame(page, pages, content))
    return found


def page_size(database: bytes) -> int:
    size = int.from_bytes(database[16:18], "big")
    return 65_536 if size == 1 else size


def states_of(database: bytes, frames: list[Frame]) -> Iterator[bytes]:
    """The database as it is with none of the frames, with the first, and so on: that of the last commit among them."""
    size = page_size(database)
    pages = bytearray(database)
    state = database
    yield state
    for frame in frames:
        start = (frame.page - 1) * size
        pages.extend(bytes(max(0, start + size - len(pages))))
        pages[start : start + size] = frame.content
        if frame.pages:
            state = bytes(pages[: frame.pages * size])
        yield state


def digest_of(database: bytes) -> str:
    return hashlib.sha256(database).hexdigest()


def opened(database: bytes, log: bytes, expected: str) -> Iterator[str]:
    """What is wrong with these files when SQLite opens them."""
    with tempfile.TemporaryDirectory(prefix="tl-cut-") as folder:
        path = Path(folder, NAME)
        path.write_bytes(database)
        Path(f"{path}-wal").write_bytes(log)
        left = f"with {len(log)} bytes of the log"
        try:
            with closing(sqlite3.connect(path)) as connection:
                for check in ("PRAGMA integrity_check", "PRAGMA foreign_key_check"):
                    found = connection.execute(check).fetchall()
                    if found not in ([("ok",)], []):
                        yield f"{left} {check} says {found[:3]}"
                if digest_of(connection.serialize()) != expected:
                    yield f"{left} the last whole commit is not the state"
        except sqlite3.DatabaseError as error:
            yield f"{left} it cannot be read: {error}"


def forgotten(picture: Picture, history: History) -> Iterator[str]:
    """What was acknowledged before the process ended, and is not there when the next one opens the database."""
    url = f"sqlite:///{picture.folder / NAME}"
    engine = create_engine(url)
    upgrade(engine)
    engine.dispose()
    yield from lost(Case(before(history, picture.at), read_final(url, None), Bounds()))


def before(history: History, at: float) -> History:
    """What was over by then, and deletions that were under way."""
    kept = History()
    for request in history.of(Request):
        if request.ended < at:
            kept.add(request)
        elif request.began < at and request.method == "DELETE":
            kept.add(replace(request, status=None, answer=None))
    return kept
