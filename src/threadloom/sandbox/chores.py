"""Work that outlives whoever began it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


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


def in_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """What blocks, in a thread of its own. Unlike asyncio's threads, the process does not wait for it when it ends."""
    result = Future[Result]()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as failure:  # noqa: BLE001 - it is raised where the result is awaited
            result.set_exception(failure)

    threading.Thread(target=run, name="sandbox", daemon=True).start()
    return asyncio.wrap_future(result)
