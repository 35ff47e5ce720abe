"""Which files are named after a call: those that the host does not have as they are."""

import os
from collections.abc import Collection
from itertools import chain, count
from pathlib import Path

import pytest

from threadloom.sandbox.image.files import Folder

MOST = 3


class Calls:
    """The folder, and a host that takes what is named, as far as it is among the first `MOST`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Folder(str(path))
        self._numbers = map(str, count(1))
        self._kept = ""

    def write(self, *names: str, size: int = 1) -> None:
        for name in names:
            (self._path / name).write_bytes(b"x" * size)

    def remove(self, name: str) -> None:
        (self._path / name).unlink()

    def end(self, *, refused: Collection[str] = (), recorded: bool = True) -> list[str]:
        """What is named; the host takes all but what is `refused`."""
        call = next(self._numbers)
        self._folder.acknowledge(self._kept)
        listed, _ = self._folder.changed(MOST, call)
        named = [str(entry["path"]) for entry in listed]
        for path in named[:MOST]:
            if path not in refused:
                self._send(path)
        if recorded:
            self._kept = call
        return named

    def found(self) -> int:
        return self._folder.changed(MOST, "unknown")[1]

    def _send(self, path: str) -> None:
        file = self._folder.open(path, (self._path / path).stat().st_size)
        self._folder.sent(path, os.fstat(file))
        os.close(file)


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def test_what_was_left_out_is_named_by_the_calls_after(calls: Calls) -> None:
    names = [f"{number}" for number in range(7)]
    calls.write(*names)
    named = [calls.end() for _ in range(4)]
    assert [len(each) for each in named] == [3, 3, 1, 0]
    assert sorted(chain.from_iterable(named)) == names
    assert calls.found() == 0


def test_what_the_host_has_is_named_before_what_is_new(calls: Calls) -> None:
    calls.write("z")
    assert calls.end() == ["z"]
    calls.write(*(f"{number}" for number in range(50)))
    calls.write("z", size=2)
    named = calls.end()
    assert len(named) == MOST
    assert "z" in named


def test_all_that_the_host_has_no_more_as_it_is_is_named(calls: Calls) -> None:
    """Though it may keep `MOST` of them only: it must know that its copies of the others are old."""
    names = ["a", "b", "c", "d", "e"]
    calls.write(*names)
    assert len(calls.end() + calls.end()) == len(names)
    calls.write(*names, size=2)
    calls.write("new")
    named = calls.end()
    assert sorted(named) == names
    assert sorted(calls.end()) == sorted([*named[MOST:], "new"])
    assert calls.end() == []


def test_what_the_host_did_not_take_is_named_again(calls: Calls) -> None:
    calls.write("large")
    for _ in range(2):
        assert calls.end(refused={"large"}) == ["large"]
    assert calls.end() == ["large"]
    assert calls.end() == []


def test_what_the_host_never_takes_keeps_nothing_else_away(calls: Calls) -> None:
    refused = {"a", "b", "c", "d"}
    calls.write(*refused)
    for _ in range(2):
        calls.end(refused=refused)
    calls.write("new")
    assert "new" in calls.end(refused=refused)
    refused.remove("d")
    assert "d" in calls.end(refused=refused) + calls.end(refused=refused)


def test_what_is_written_smaller_after_a_refusal_is_named_at_once(calls: Calls) -> None:
    refused = {"a", "b", "c", "d", "e", "f"}
    calls.write(*refused, size=2)
    calls.end(refused=refused)
    last = calls.end(refused=refused)[0]
    calls.write(last)
    assert last in calls.end()


def test_what_a_call_that_nobody_recorded_wrote_is_named_again(calls: Calls) -> None:
    calls.write("a")
    assert calls.end(recorded=False) == ["a"]
    assert calls.end() == ["a"]
    assert calls.end() == []


def test_what_was_removed_and_comes_again_is_new(calls: Calls) -> None:
    calls.write("a")
    calls.end()
    calls.remove("a")
    assert calls.end() == []
    calls.write("a")
    assert calls.end() == ["a"]
