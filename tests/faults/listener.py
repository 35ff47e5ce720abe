"""A project's receiver of webhooks, which fails half of the time; what it is sent is recorded."""

import random
from collections import Counter
from dataclasses import dataclass, field

import httpx2
import orjson

from tests.faults.history import Delivery, History, now
from tests.support.receiver import Answer, Received, Receiver
from threadloom.types.webhooks import EVENT_TYPES

TYPES = [
    name for name in EVENT_TYPES if not name.startswith(("thread.run.step.", "vector_store.file_"))
]
"""Those that the checker can compare with what the database holds in the end."""
CHANCE = 0.5
MOST_FAILURES = 3
"""Of one event: the pauses between attempts double, and the suite is to end."""
FAILURES = (*[Answer(500)] * 4, Answer(503, ("Retry-After: 1",)), Answer(302), Answer(never=True))


@dataclass
class Listener(Receiver):
    """What it was sent is in the history."""

    project: str = ""
    history: History = field(default_factory=History)
    _failures: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        self.choose = self._choose

    def _choose(self, one: Received) -> Answer:
        """The very first fails whatever happens, or a short game might see none."""
        fails = not self._failures or random.random() <= CHANCE
        if not fails or self._failures[one.webhook_id] == MOST_FAILURES:
            return Answer()
        self._failures[one.webhook_id] += 1
        return random.choice(FAILURES)

    def judge(self, body: bytes, head: dict[str, str]) -> Answer:
        forged = self.forged
        answer = super().judge(body, head)
        self.received.clear()  # it is recorded
        event = orjson.loads(body)
        self.history.add(
            Delivery(
                self.project,
                now(),
                head["webhook-id"],
                event["type"],
                event["data"],
                genuine=self.forged == forged,
                taken=answer.status == Answer().status and not answer.never,
            )
        )
        return answer

    async def register(self, server: str, key: str) -> None:
        """Have it told of what happens in the project of this key."""
        body = {"name": "Suite", "url": self.url, "event_types": TYPES}
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            made = await http.post(f"{server}/webhook_endpoints", json=body)
        assert made.is_success, made.text
        self.secrets.append(made.json()["signing_secret"])
