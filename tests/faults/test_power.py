"""A look at SQLite's files sees a lost commit, a part of one, and what was acknowledged and is not there."""

import sqlite3
from collections.abc import Generator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.history import History, Request
from tests.faults.power import (
    NAME,
    Picture,
    digest_of,
    forgotten,
    frames_of,
    has_next,
    judge,
    opened,
    states_of,
    take,
)

COMMITS = 4
PROJECT = "INSERT INTO projects (id, name, created_at) VALUES (?, ?, 1)"


@pytest.fixture
def picture(migrated_sqlite: Path, tmp_path: Path) -> Generator[Picture]:
    """Of a database to whose log four projects were committed, and part of a fifth."""
    path = tmp_path / NAME
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(COMMITS):
            connection.execute(PROJECT, [f"proj_{number}", str(number)])
        yield take(path, tmp_path / "picture", at=10.0)


def parts(picture: Picture) -> tuple[bytes, bytes]:
    return (picture.folder / NAME).read_bytes(), (picture.folder / f"{NAME}-wal").read_bytes()


def test_power_cuts_leave_whole_commits(picture: Picture) -> None:
    database, log = parts(picture)
    frames = frames_of(log)
    assert sum(frame.pages > 0 for frame in frames) == COMMITS
    states = [*states_of(database, frames)]
    assert sum(one != other for one, other in pairwise(states)) == COMMITS
    assert [*judge(picture, History())] == []


def test_zeros_that_come_in_place_of_zeros_cut_nothing() -> None:
    log = b"head" + b"fra\0" + b"more"
    assert has_next(b"headfra" + b"\0" * 4, log, whole=4, size=4)
    assert not has_next(b"headfr" + b"\0" * 4, log, whole=4, size=4)
    assert not has_next(log + b"\0" * 4, log, whole=len(log), size=4)


def test_a_lost_commit_is_seen(picture: Picture) -> None:
    database, log = parts(picture)
    *_, whole = states_of(database, frames_of(log))
    assert [*opened(database, log, digest_of(whole))] == []
    [lost] = opened(database, log[: len(log) // 2], digest_of(whole))
    assert "the last whole commit is not the state" in lost


def test_a_damaged_page_is_seen(picture: Picture) -> None:
    database, _ = parts(picture)
    middle = len(database) // 2
    damaged = database[:middle] + b"\xff" * 8_192 + database[middle + 8_192 :]
    assert [*opened(damaged, b"", digest_of(damaged))]


@pytest.mark.parametrize(("ended", "said"), [(5.0, 1), (15.0, 0)])
def test_what_was_acknowledged_before_is_missed(picture: Picture, ended: float, said: int) -> None:
    history = History()
    thread = {"id": f"thread_{'a' * 24}", "object": "thread"}
    history.add(Request("c", "a", "POST", "/threads", {}, 4.0, ended, 200, thread))
    assert len([*forgotten(picture, history)]) == said
