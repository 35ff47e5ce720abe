"""The scripted model, which records its calls and fails when the nemesis says so."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.history import Call, History, now
from threadloom.testing.upstream import Answer, Upstream, error_answer, text_of

TROUBLES: dict[str, Answer] = {
    "hangs": Answer(delay=float("inf")),
    "fails": error_answer(500, {"message": "Scripted failure."}),
    "refuses": error_answer(429, {"message": "Slow down."}, (("retry-after", "1"),)),
    "babbles": Answer(chunks=(b"data: {nonsense\n\n", b"\x00\xff" * 100, b"\n\n")),
}
"""What may become of a call; the others are `cut` and `stops`, which begin well."""
WATCH_EVERY = 0.05


@dataclass
class Model(Upstream):
    """`trouble` is what befalls calls, each with that probability."""

    history: History = field(default_factory=History)
    trouble: tuple[str, ...] = ()
    chance: float = 0.5
    _asked: dict[object, tuple[str, float, bool]] = field(
        default_factory=dict[object, tuple[str, float, bool]]
    )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stop at once when the other side goes away, also in the midst of a pause."""
        serving = asyncio.current_task()
        assert serving is not None

        async def watch() -> None:
            while not reader.at_eof():  # noqa: ASYNC110 - a stream has no event for its end
                await asyncio.sleep(WATCH_EVERY)
            serving.cancel()

        watching = asyncio.create_task(watch())
        try:
            await super()._serve(reader, writer)
        finally:
            watching.cancel()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        whole = False
        try:
            whole = await super()._serve_one(reader, writer)
        finally:
            if asked := self._asked.pop(asyncio.current_task(), None):
                text, began, good = asked
                self.history.add(Call(text, began, now(), answered=whole and good))
        return whole

    def _complete(self, headers: dict[str, str], request: dict[str, Any]) -> Answer:
        self.requests.clear()  # they are recorded by their last messages
        self.headers.clear()
        answer = self._troubled(super()._complete(headers, request))
        good = answer.status == 200 and answer not in TROUBLES.values()
        text = text_of(request["messages"][-1])
        self._asked[asyncio.current_task()] = text, now(), good
        return answer

    def _score(
        self,
        headers: dict[str, str],
        request: dict[str, Any],
        text: str,
        answer: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Answer:
        scored = super()._score(headers, request, text, answer)
        # An embedder has two minutes for a batch, and nobody's time-out is shorter.
        return scored if "hangs" in self.trouble else self._troubled(scored)

    def _troubled(self, answer: Answer) -> Answer:
        if not self.trouble or random.random() > self.chance:
            return answer
        match random.choice(self.trouble):
            case "cut":
                return replace(answer, drop_after=random.randint(1, 5))
            case "stops":
                return replace(answer, hang_after=random.randint(1, 5))
            case trouble:
                return TROUBLES[trouble]
