"""What happened, as clients, the model and the nemesis saw it: entries in memory, and as lines of JSON on disk.

Times are seconds of one monotonic clock, so that entries of all clients can be compared.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import orjson

Json = dict[str, Any]
Place = tuple[int, int]


@dataclass(frozen=True)
class Request:
    """One request, sent once. `status` is None when no answer came; then nobody knows what became of it."""

    client: str
    project: str
    method: str
    path: str
    body: Json | None
    began: float
    ended: float
    status: int | None = None
    answer: Json | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Told:
    """An event of a run's stream as a client got it."""

    client: str
    project: str
    run_id: str
    at: float
    place: Place
    name: str
    data: Json


@dataclass(frozen=True)
class StreamEnd:
    """How one answer with events ended: `done`, `error`, `broken` (its connection), or `silent`, which must not be."""

    client: str
    run_id: str
    at: float
    how: str


@dataclass(frozen=True)
class Expected:
    """What a client waits for of a run: its messages' texts (None: not known before) and the calls of tools."""

    run_id: str
    texts: tuple[str, ...] | None
    tool_steps: int


@dataclass(frozen=True)
class Call:
    """A request to the model. `text` is its last message."""

    text: str
    began: float
    ended: float
    answered: bool


@dataclass(frozen=True)
class Fault:
    """What the nemesis did, and to whom."""

    nemesis: str
    victim: str
    at: float


@dataclass(frozen=True)
class Recovery:
    """How long it took from a fault, or from the moment a database accepts again, to the first success."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """What a project's webhook endpoint was sent. `genuine`: its signature was right. `taken`: it was answered with success."""

    project: str
    at: float
    event_id: str
    type: str
    data: Json
    genuine: bool
    taken: bool


@dataclass(frozen=True)
class Sample:
    """Bytes of memory, open files and threads of a process."""

    process: str
    at: float
    rss: int
    files: int = 0
    threads: int = 0
    pid: int = 0


@dataclass(frozen=True)
class Stock:
    """Rows that wait for somebody, by table, and bytes of the database and of the processes' folder."""

    at: float
    waiting: dict[str, int]
    database: int
    folder: int


Entry = Request | Told | StreamEnd | Expected | Call | Fault | Recovery | Delivery | Sample | Stock
KINDS: dict[str, type[Entry]] = {kind.__name__: kind for kind in get_args(Entry)}
Kind = TypeVar("Kind", bound=Entry)


class History:
    """All entries, in the order in which they were over."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Entry] = []
        self._file = path.open("wb") if path else None

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self._file:
            self._file.write(orjson.dumps({"kind": type(entry).__name__} | asdict(entry)) + b"\n")

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        return (entry for entry in self.entries if isinstance(entry, kind))

    def close(self) -> None:
        if self._file:
            self._file.close()


def read_history(path: Path) -> History:
    """A recorded history, to be checked again."""
    history = History()
    for line in path.read_bytes().splitlines():
        fields: Json = orjson.loads(line)
        kind = KINDS[fields.pop("kind")]
        for name in ("place", "texts"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        history.entries.append(kind(**fields))
    return history


def now() -> float:
    return time.monotonic()
