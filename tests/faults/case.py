"""A recorded history and what the database holds in the end: all that there is to judge by."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.final import Final, Row
from tests.faults.history import History, Json, Request

TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})


@dataclass(frozen=True)
class Bounds:
    """What the arena was set to."""

    lease: float = 15.0
    expires_after: float = 600.0
    rss: int = 700 * 1024 * 1024
    files: int = 600
    threads: int = 150
    waiting: int = 3_000
    """Rows of one table."""
    kept: int = 400 * 1024
    """Bytes of the database and of the processes' folder for each request that was acknowledged, beside those of an empty one."""
    settles: float = 60.0
    """Seconds that a process has to live before it may not grow any more, while the load stays the same."""


@dataclass(frozen=True)
class Case:
    """All that there is to judge by."""

    history: History
    final: Final
    bounds: Bounds

    @property
    def acknowledged(self) -> Iterator[tuple[Request, Json]]:
        """Requests that changed something and were told so, with the object they got."""
        for request in self.history.of(Request):
            if request.method == "POST" and is_success(request) and request.answer is not None:
                yield request, request.answer


def is_success(request: Request) -> bool:
    return request.status is not None and request.status < 300


def polls_of(history: History) -> dict[str, list[tuple[Request, Json]]]:
    """Answers that showed a run, by run."""
    shown: dict[str, list[tuple[Request, Json]]] = defaultdict(list)
    for request in history.of(Request):
        if is_success(request) and (request.answer or {}).get("object") == "thread.run":
            assert request.answer is not None
            shown[request.answer["id"]].append((request, request.answer))
    return shown


def messages_by_run(final: Final) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for message in final.messages:
        if message["run_id"]:
            found[message["run_id"]].append(message)
    return found


def token_of(row: Row) -> str | None:
    metadata: dict[str, str] = row.get("metadata") or {}
    return metadata.get("token")
