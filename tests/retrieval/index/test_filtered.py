"""Filters and search together: what comes back is what looking at every row of every file that matches would find."""

import asyncio
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.retrieval.filtering import Sent, attribute_sets, filters, obviously
from tests.retrieval.index.brute import BruteIndex
from tests.retrieval.index.checks import DIMENSIONS, TEXT, same, some_files
from tests.retrieval.index.conftest import open_kind
from tests.retrieval.index.rows import MODEL, FileData, clustered, filled_store
from tests.runs.workers import opened
from threadloom.db.database import Database
from threadloom.retrieval.filters import matching_files
from threadloom.retrieval.index import Index
from threadloom.types.filters import Filter
from threadloom.types.vector_stores import AttributeValue

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
Attributes = dict[str, AttributeValue]


async def check(
    index: Index, database: Database, attributes: list[Attributes], asked: list[Sent]
) -> None:
    chance = np.random.default_rng(len(attributes))
    store = await filled_store(database)
    files = [
        FileData(file.chunks, file.texts, given)
        for file, given in zip(some_files(chance, len(attributes)), attributes, strict=True)
    ]
    seqs = await store.add(*files)
    now, brute, query = (
        await store.state(),
        BruteIndex(database),
        clustered(chance, 1, DIMENSIONS)[0],
    )
    for sent in asked:
        chosen = await database.read(matching_files, store.id, FILTER.validate_python(sent))
        true = [seq for seq, given in zip(seqs, attributes, strict=True) if obviously(sent, given)]
        expected = np.array(true, np.int64)
        same(
            await index.nearest(now, MODEL, query, limit=10, files=chosen),
            await brute.nearest(now, MODEL, query, limit=10, files=expected),
        )
        same(
            await index.matching(now, TEXT, limit=10, files=chosen),
            await brute.matching(now, TEXT, limit=10, files=expected),
        )


def test_a_filtered_search_is_brute_force_over_the_files_that_match(
    kind: str, database_url: str, tmp_path: Path
) -> None:
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        attributes=st.lists(attribute_sets, min_size=1, max_size=40),
        asked=st.lists(filters, min_size=1, max_size=6),
    )
    def holds(attributes: list[Attributes], asked: list[Sent]) -> None:
        async def in_a_loop() -> None:
            async with opened(database_url) as database:
                index = open_kind(kind, database, tmp_path / "index")
                await check(index, database, attributes, asked)
                await index.close()

        asyncio.run(in_a_loop())

    holds()
