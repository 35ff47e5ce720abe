"""A search that finds what a test tells it to find."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from threadloom.db.database import ProjectDatabase
from threadloom.retrieval.search import Hit
from threadloom.types.vector_stores import Attributes


def passage(
    text: str,
    *,
    filename: str = "a.txt",
    file_id: str = "file-1",
    score: float = 0.5,
    page: int | None = None,
    heading: str | None = None,
    attributes: Attributes | None = None,
) -> Hit:
    """A passage to be found."""
    return Hit(file_id, filename, attributes or {}, score, text, page, heading, 1, 0)


@dataclass(frozen=True)
class SearchRequest:
    """What was searched for."""

    project_id: str
    store_ids: Sequence[str]
    queries: Sequence[str]
    limit: int
    score_threshold: float
    weight: float | None


class ScriptedSearch:
    """Plays one scripted answer for each search, nothing when there is none left, and keeps the requests it got."""

    def __init__(self) -> None:
        self.requests: list[SearchRequest] = []
        self._answers = deque[Sequence[Hit] | Exception | asyncio.Event]()

    def finds(self, *hits: Hit) -> None:
        """What the next search finds."""
        self._answers.append(hits)

    def fails(self, error: Exception) -> None:
        """The next search raises this."""
        self._answers.append(error)

    def waits(self, event: asyncio.Event) -> None:
        """The next search finds nothing, once the test has set `event`."""
        self._answers.append(event)

    async def find(
        self,
        project: ProjectDatabase,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        limit: int,
        score_threshold: float = 0.0,
        weight: float | None = None,
    ) -> Sequence[Hit]:
        self.requests.append(
            SearchRequest(project.project_id, store_ids, queries, limit, score_threshold, weight)
        )
        answer = self._answers.popleft() if self._answers else ()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return ()
        return answer[:limit]
