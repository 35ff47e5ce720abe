"""Who is let in: a burst queues, a flood is refused before it costs much.

Up to `max_requests` are worked on at once. Once more have come the server is crowded: at first a single request may wait for the database,
and who waits too long for a first transaction is refused as well. So what is let in does not wait behind the flood. Each second the server
looks back, and lets more wait if what came would have fitted, until all is as before. A burst that fits waits its turn, however long: SDKs
give up after two refusals.
"""

import time
from dataclasses import dataclass, field

from starlette.types import Message, Receive

from threadloom.errors import Overloaded
from threadloom.telemetry import metrics

PATIENCE = 0.02
"""Seconds that a request in a crowd may wait for its first transaction, and for each that may wait with it."""
PERIOD = 1.0
"""Seconds after which a crowded server looks back."""
SILENCE = 10.0
"""Seconds after which nothing is known about a crowd any more."""
STEP = 4
"""How many times as many may wait after a period in which all would have fitted."""
SPREAD = 16


@dataclass(eq=False)
class Crowd:
    """A period of a crowded server: how many may wait for the database, and how many were let in or not.

    More than one make each other slow: with two, each takes twice as long, and a third more is answered.
    """

    room: int = 1
    since: float = field(default_factory=time.monotonic)
    let_in: int = 0
    refused: int = 0

    @property
    def age(self) -> float:
        return time.monotonic() - self.since

    @property
    def patience(self) -> float:
        return PATIENCE * self.room

    @property
    def fits(self) -> bool:
        """Whether requests come more slowly than they are served.

        If as fast, all lengths of a queue with `room` places are equally likely, and it is full for one request in `room + 1` (M/M/1/K).
        To wait for the last refusal instead would keep a server crowded for ever: now and then any two requests meet.
        """
        return self.refused * (self.room + 1) <= self.let_in + self.refused

    def following(self) -> "Crowd":
        return Crowd(self.room * STEP if self.fits else max(1, self.room // STEP))


class Gate:
    """Counts the requests of one process."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._refused = 0
        self.crowd: Crowd | None = None
        self.active = 0
        self.waiting = 0

    def is_full(self) -> bool:
        """Whether who comes now is to be refused."""
        crowd = self._look_back()
        return self.active >= self._max_requests or (
            crowd is not None and self.waiting >= crowd.room
        )

    def _look_back(self) -> Crowd | None:
        if (crowd := self.crowd) is not None and crowd.age >= PERIOD:
            following = crowd.following()
            is_over = crowd.age >= SILENCE or following.room >= self._max_requests
            self.crowd = None if is_over else following
        return self.crowd

    def enter(self) -> "Admission":
        """Let a request in, which has to leave again. Raises Overloaded."""
        if self.is_full():
            raise self.refusal()
        if self.crowd is not None:
            self.crowd.let_in += 1
        return Admission(self)

    def refusal(self) -> Overloaded:
        """For who is not let in."""
        crowd = self.crowd = self.crowd or Crowd()
        crowd.refused += 1
        return self.overloaded()

    def overloaded(self) -> Overloaded:
        """Those who are refused together shall not come back together. Database threads call this too."""
        self._refused += 1
        metrics.HTTP_REFUSED.add()
        return Overloaded(retry_after=1 + self._refused % SPREAD / SPREAD)


class Admission:
    """A request that was let in, as the lanes of the database know it.

    It waits from the moment it is let in until its first transaction is done, and again for each further one;
    not while the server waits for its body: who sends slowly keeps nobody out.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_inside = True
        self._is_waiting = False
        self._jobs = 0
        gate.active += 1
        self._wait()

    def leave(self) -> None:
        """It is answered, or streams its answer: then it counts no more."""
        if self._is_inside:
            self._is_inside = False
            self._gate.active -= 1
            self.served()

    async def receive(self, receive: Receive) -> Message:
        """The next piece of its body."""
        was_waiting = self._is_waiting
        self.served()
        message = await receive()
        if was_waiting and self._is_inside:
            self._wait()
        return message

    def queued(self) -> None:
        self._jobs += 1
        if self._is_inside:
            self._wait()

    def _wait(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._gate.waiting += 1

    def served(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._gate.waiting -= 1

    def refusal(self, waited: float) -> Overloaded | None:
        """Only the first transaction is refused: later ones belong to something that has begun."""
        crowd = self._gate.crowd
        if crowd is None or waited <= crowd.patience or self._jobs > 1 or not self._is_inside:
            return None
        return self._gate.overloaded()
