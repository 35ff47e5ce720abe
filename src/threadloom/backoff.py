"""How long to wait before a further try at a server that failed."""

import random
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

HEADERS = (("retry-after-ms", 0.001), ("retry-after", 1.0))
SECONDS = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Backoff:
    """How long to wait, when the server does not say."""

    first: float = 0.5
    longest: float = 8.0
    longest_asked: float = 30.0
    jitter: Callable[[], float] = random.random

    def seconds(self, attempt: int, asked: float | None) -> float:
        """A server's wish is met up to `longest_asked`; otherwise half the delay is chance."""
        if asked is not None:
            return min(asked, self.longest_asked)
        return min(self.first * 2**attempt, self.longest) * (0.5 + self.jitter() / 2)


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The seconds that a server asks to wait, which may be any number; None when it says nothing.

    A date counts only for who says what time it is: from models and embedders only proxies send one.
    """
    for name, unit in HEADERS:
        value = headers.get(name, "")
        if SECONDS.fullmatch(value):
            return float(value) * unit
    if now is not None:
        with suppress(ValueError, OverflowError):
            return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now, 0.0)
    return None
