"""Who is let in: a burst queues, a flood is refused before it costs much.

Up to `max_requests` are worked on at once. Once more have come the server is crowded, until none was refused for a while: requests are
let in only while few wait, and those that wait too long for their first transaction are refused as well. So what is let in does not
wait behind the flood. A burst that fits waits its turn, however long: SDKs give up after two refusals.
"""

import time

from starlette.types import Message, Receive

from threadloom.errors import Overloaded
from threadloom.telemetry import metrics

CROWDED_FOR = 3.0
"""Seconds without a refusal after which the server is not crowded any more."""
FEW = 1
"""Reading requests, and as many writing ones, that may wait for the database while the server is crowded."""
CROWDED_PATIENCE = 0.02
"""Seconds that one of them may wait."""
SPREAD = 16
READS = frozenset({"GET", "HEAD"})


class Gate:
    """Counts the requests of one process."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._crowded_until = 0.0
        self._refused = 0
        self.active = 0
        self.waiting = {True: 0, False: 0}

    @property
    def is_crowded(self) -> bool:
        """Whether somebody was refused not long ago: then it is no burst that ends by itself."""
        return time.monotonic() < self._crowded_until

    def is_full(self, method: str) -> bool:
        waiting = self.waiting[method in READS]
        return self.active >= self._max_requests or (waiting >= FEW and self.is_crowded)

    def enter(self, method: str) -> "Admission":
        """Let a request in, which has to leave again. Raises Overloaded."""
        if self.is_full(method):
            raise self.refusal()
        return Admission(self, reads=method in READS)

    def refusal(self) -> Overloaded:
        """Those who are refused together shall not come back together."""
        self._crowded_until = time.monotonic() + CROWDED_FOR
        self._refused += 1
        metrics.HTTP_REFUSED.add()
        return Overloaded(retry_after=1 + self._refused % SPREAD / SPREAD)


class Admission:
    """A request that was let in, as the lanes of the database know it.

    It waits from the moment it is let in until its first transaction is done, and again for each further one;
    not while the server waits for its body: who sends slowly keeps nobody out.
    """

    def __init__(self, gate: Gate, *, reads: bool) -> None:
        self._gate = gate
        self._reads = reads
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
            self._gate.waiting[self._reads] += 1

    def served(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._gate.waiting[self._reads] -= 1

    def refusal(self, waited: float) -> Overloaded | None:
        """Only the first transaction is refused: later ones belong to something that has begun."""
        is_late = self._is_inside and self._jobs == 1 and waited > CROWDED_PATIENCE
        return self._gate.refusal() if is_late and self._gate.is_crowded else None
