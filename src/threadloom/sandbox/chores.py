"""Work that outlives whoever began it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """Tasks whose owner waits for them before it ends."""

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[Any]]()

    def add(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def done(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
