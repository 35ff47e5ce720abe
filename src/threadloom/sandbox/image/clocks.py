"""How long a sandbox lives. It ends by itself, so that nobody has to find it when its owner is gone."""

from typing import Literal

Why = Literal["idle", "life"]


class Clocks:
    """Spares have none: they start when a session claims the sandbox. Times are the monotonic clock's seconds."""

    def __init__(self) -> None:
        self._idle = self._ends_at = self._idle_at = float("inf")

    def start(self, now: float, *, idle: float, life: float) -> None:
        self._idle, self._ends_at = idle, now + life
        self.used(now)

    def used(self, now: float) -> None:
        self._idle_at = now + self._idle

    @property
    def due(self) -> float:
        return min(self._idle_at, self._ends_at)

    def over(self, now: float) -> Why | None:
        if now >= self._ends_at:
            return "life"
        return "idle" if now >= self._idle_at else None
