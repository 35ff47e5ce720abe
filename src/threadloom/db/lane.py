"""Threads that run database actions, so that the event loop never waits for a disk."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

from sqlalchemy import Connection

from threadloom.errors import Overloaded

MAX_BATCH = 64


class Visitor(Protocol):
    """Who waits for a job and may be refused. What works behind the API is no visitor."""

    def queued(self) -> None:
        """On the loop: a job waits."""
        ...

    def served(self) -> None:
        """On the loop: it waits no more."""
        ...

    def refusal(self, waited: float) -> Overloaded | None:
        """In a database thread: why the job, whose turn has come after so many seconds, is not done."""
        ...


VISITOR: ContextVar[Visitor | None] = ContextVar("visitor", default=None)
"""Whom the current task works for."""


@dataclass(eq=False)
class Job:
    """An action that waits for its thread, and what became of it."""

    action: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    visitor: Visitor | None = None
    since: float = field(default_factory=time.monotonic)
    result: Any = None
    error: BaseException | None = None

    @property
    def is_refused(self) -> bool:
        """In a database thread: whether the visitor has waited too long; the error then says so."""
        if self.visitor is not None:
            self.error = self.visitor.refusal(time.monotonic() - self.since)
        return self.error is not None

    def settle(self) -> None:
        """On the loop: hand the outcome to whoever still waits."""
        if self.visitor is not None:
            self.visitor.served()
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


Work = Callable[[Connection, Sequence[Job]], None]


class Lane:
    """A queue of jobs and the threads, each with a connection of its own, that work it off.

    With `batch`, a thread takes all that is queued at once: one commit then serves many jobs.
    """

    def __init__(
        self, name: str, connect: Callable[[], Connection], work: Work, *, threads: int, batch: bool
    ) -> None:
        self._connect = connect
        self._work = work
        self._batch = MAX_BATCH if batch else 1
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, action: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        visitor = VISITOR.get()
        if visitor is not None:
            visitor.queued()
        self._jobs.put(Job(action, loop, future, visitor))
        return future

    def close(self) -> None:
        """Finish what is queued, then end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        connection: Connection | None = None
        while jobs := self._take():
            accepted = [job for job in jobs if not job.is_refused]
            try:
                connection = connection or self._connect()
                if accepted:
                    self._work(connection, accepted)
            except Exception as error:  # noqa: BLE001 - a fault ends its jobs, never the thread
                for job in accepted:
                    job.error = job.error or error
            settle(jobs)
        if connection is not None:
            connection.close()

    def _take(self) -> list[Job]:
        """The next jobs; nothing when the lane is closed."""
        first = self._jobs.get()
        if first is None:
            return []
        jobs = [first]
        while len(jobs) < self._batch and not self._jobs.empty():
            following = self._jobs.get()
            if following is None:
                self._jobs.put(None)
                break
            jobs.append(following)
        return jobs


def settle(jobs: Sequence[Job]) -> None:
    """Wake each loop once for all its jobs; a loop that has ended has nobody waiting."""
    for loop in {job.loop for job in jobs}:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle_all, [job for job in jobs if job.loop is loop])


def settle_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.settle()
