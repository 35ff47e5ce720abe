"""Wake-ups: hints that something changed. Losing all of them only makes waiters slower."""

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

POLL = 1.0
"""Seconds after which a waiter looks by itself."""


class Signal:
    """Calls whoever subscribed to a channel. Lives on the event loop."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[Callable[[], None]]] = {}
        self.missed = 0
        """Changes that only the poll brought to light."""

    def notify(self, channels: Iterable[str]) -> None:
        for channel in channels:
            for wake in tuple(self._subscribers.get(channel, ())):
                wake()

    @contextmanager
    def subscribe(self, channel: str, wake: Callable[[], None]) -> Generator[None]:
        """`wake` is called on the loop for each notification until the block ends."""
        subscribers = self._subscribers.setdefault(channel, set())
        subscribers.add(wake)
        try:
            yield
        finally:
            subscribers.discard(wake)
            if not subscribers:
                self._subscribers.pop(channel, None)


class Bell:
    """A waiter's own memory of wake-ups, so that none is lost between a look and a wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, timeout: float = POLL) -> bool:  # noqa: ASYNC109
        """True when rung since the last wait, False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
