"""Whatever happens to a store, in any order: an index that followed finds what a fresh one finds, and what is true."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.retrieval.index.checks import DIMENSIONS, assert_like_brute_force, some_files
from tests.retrieval.index.conftest import open_kind
from tests.retrieval.index.rows import (
    MODEL,
    Filled,
    clustered,
    embed_again,
    filled_store,
    set_status,
)
from tests.runs.workers import opened
from threadloom.retrieval.index import Index

T = TypeVar("T")
seeds = st.integers(0, 2**32 - 1)


class Sequences(RuleBasedStateMachine):
    """One store, its index, and all that is done to both."""

    kind: ClassVar[str]
    url: ClassVar[str]
    directory: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opening = opened(self.url)
        self.database = self.run(self.opening.__aenter__())
        self.store: Filled = self.run(filled_store(self.database))
        self.index: Index = open_kind(self.kind, self.database, self.directory)
        self.files: list[int] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def some(self, seed: int) -> list[int]:
        chance = np.random.default_rng(seed)
        return [seq for seq in self.files if chance.random() < 0.3]

    @rule(seed=seeds, count=st.integers(1, 40))
    def add(self, seed: int, count: int) -> None:
        self.files += self.run(self.store.add(*some_files(np.random.default_rng(seed), count)))

    @rule(seed=seeds)
    def remove(self, seed: int) -> None:
        gone = self.some(seed)
        self.run(self.store.remove(*gone))
        self.files = [seq for seq in self.files if seq not in gone]

    @rule(seed=seeds, dimensions=st.sampled_from([DIMENSIONS, 8]))
    def embed_again(self, seed: int, dimensions: int) -> None:
        chance = np.random.default_rng(seed)
        for seq in self.some(seed)[:3]:
            again = [clustered(chance, 2, dimensions)]
            self.run(self.database.write(embed_again, self.store.id, seq, again, MODEL))

    @rule(seed=seeds, status=st.sampled_from(["in_progress", "completed", "failed"]))
    def set_status(self, seed: int, status: str) -> None:
        for seq in self.some(seed)[:3]:
            self.run(self.database.write(set_status, self.store.id, seq, status))

    @rule()
    def restart(self) -> None:
        self.run(self.index.close())
        self.index = open_kind(self.kind, self.database, self.directory)

    @rule(seed=seeds, limit=st.integers(1, 50), filtered=st.booleans())
    def search(self, seed: int, limit: int, filtered: bool) -> None:
        query = clustered(np.random.default_rng(seed), 1, DIMENSIONS)[0]
        files = np.array(self.some(seed), np.int64) if filtered else None
        self.run(assert_like_brute_force(self.index, self.store, query, limit=limit, files=files))

    def teardown(self) -> None:
        fresh = open_kind(self.kind, self.database, self.directory / "fresh")
        for index in (self.index, fresh):
            query = clustered(np.random.default_rng(1), 1, DIMENSIONS)[0]
            self.run(assert_like_brute_force(index, self.store, query, limit=50))
            self.run(index.close())
        self.run(self.opening.__aexit__(None, None, None))
        self.runner.close()


def test_an_index_follows_its_store_through_anything(
    kind: str, database_url: str, tmp_path: Path
) -> None:
    class OfKind(Sequences):
        pass

    OfKind.kind, OfKind.url, OfKind.directory = kind, database_url, tmp_path / "index"
    run_state_machine_as_test(OfKind, settings=LIMITS)


LIMITS = settings(
    max_examples=12,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
