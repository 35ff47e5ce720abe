"""Ids that are the same in every run of a test."""

import threading
from collections import Counter

from threadloom.ids import LENGTH, Prefix


class SequentialIds:
    """`msg_000000000000000000000001`, `…2`, …, counted for each prefix."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._lock = threading.Lock()

    def new(self, prefix: Prefix) -> str:
        with self._lock:
            self._counts[prefix] += 1
            return f"{prefix}{self._counts[prefix]:0{LENGTH}d}"
