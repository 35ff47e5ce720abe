"""JSON as people save it: a list page, an array, one object, or an object on each line; one piece in memory at a time."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson

from threadloom.archive.entries import Entry, Refused
from threadloom.types.shared import JsonObject

MAX_DOCUMENT = 32 * 1024 * 1024
"""Bytes of one JSON document, and of one line of JSON Lines."""
MAX_DEPTH = 100
LINES = (".jsonl", ".ndjson")
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
UTF16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Unreadable(Exception):
    """The document cannot be read; the text says why, for people."""


@dataclass(frozen=True)
class Found:
    """A JSON object, where it stands, and whether it is on a page with the newest first."""

    value: JsonObject
    where: str
    newest_first: bool


def read_documents(entry: Entry, refused: Refused) -> Iterator[Found]:
    """All objects of an entry; `refused` is told of what cannot be read."""
    with entry.open() as file:
        if entry.path.lower().endswith(LINES) or entry.size > MAX_DOCUMENT:
            yield from read_lines(file, entry.path, refused)
            return
        text = file.read(MAX_DOCUMENT + 1)
    lines = text.splitlines()
    if len(lines) > 1 and is_object(lines[0]):
        for number, line in enumerate(lines, 1):
            yield from read_text(line, f"{entry.path}:{number}", refused)
    else:
        yield from read_text(text, entry.path, refused)


def read_lines(file: IO[bytes], path: str, refused: Refused) -> Iterator[Found]:
    number = 0
    while line := file.readline(MAX_DOCUMENT + 1):
        number += 1
        if len(line) > MAX_DOCUMENT:
            refused(path, f"it is larger than {MAX_DOCUMENT} bytes, and not JSON Lines")
            return
        yield from read_text(line, f"{path}:{number}", refused)


def read_text(text: bytes, where: str, refused: Refused) -> Iterator[Found]:
    if not text.strip():
        return
    try:
        yield from objects_of(parsed(text), where)
    except Unreadable as error:
        refused(where, str(error))


def is_object(line: bytes) -> bool:
    try:
        return isinstance(parsed(line), dict)
    except Unreadable:
        return False


def parsed(text: bytes) -> Any:
    """Strict JSON that a database can store. Raises Unreadable."""
    for mark, encoding in UTF16.items():
        if text.startswith(mark):
            text = text.decode(encoding, errors="replace").encode(errors="replace")
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unreadable("it is not JSON") from None
    if too_deep(text):
        raise Unreadable(f"it is nested more than {MAX_DEPTH} levels deep")
    return value


def too_deep(text: bytes) -> bool:
    """By its brackets; those in strings only make it look again."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    level, deepest = 0, 0
    for place in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        level += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(place[0], 0)
        deepest = max(deepest, level)
    return deepest > MAX_DEPTH


def has_nul(text: bytes) -> bool:
    """PostgreSQL cannot store NUL in text."""
    return NUL.search(text) is not None


def objects_of(value: Any, where: str) -> Iterator[Found]:
    """The objects of a page, of an array of objects or pages, or the one that it is. Raises Unreadable."""
    match value:
        case {"data": [*data]}:
            yield from page(data, where, is_listed=True)
        case [*data]:
            yield from page(data, where, is_listed=False)
        case {}:
            yield Found(value, where, newest_first=False)
        case _:
            raise Unreadable("it holds no objects")


def page(data: list[Any], where: str, *, is_listed: bool) -> Iterator[Found]:
    newest_first = is_newest_first(data, otherwise=is_listed)
    for one in data:
        match one:
            case {"data": [*listed]}:
                yield from page(listed, where, is_listed=True)
            case {}:
                yield Found(one, where, newest_first)
            case _:
                raise Unreadable("one of its objects is none")


def is_newest_first(data: list[Any], *, otherwise: bool) -> bool:
    """By the times of its ends; pages of lists come newest first unless somebody asked for another order."""
    match [*data[:1], *data[-1:]]:
        case [{"created_at": int() as first}, {"created_at": int() as last}] if first != last:
            return first > last
        case _:
            return otherwise
