"""Another embedding model: noticed, and `threadloom reindex` brings every file to it."""

from pathlib import Path

import pytest

from tests.retrieval.test_ingest import World, ingesting, prepare, row_of, settled
from tests.runs.workers import opened
from threadloom.api.keys import ensure_project
from threadloom.db.database import Database
from threadloom.retrieval.embedder import Embedder, EmbeddingError
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.reindex import reindex
from threadloom.retrieval.search import Hit, Search
from threadloom.testing import HashEmbedder

MEMORY = 1024**2


async def ingested(url: str, folder: Path) -> World:
    world = await prepare(url, folder)
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, HashEmbedder(64, model="old"))),
    ):
        await settled(database, world)
    return world


async def find(database: Database, world: World, embedder: Embedder, query: str) -> list[Hit]:
    index = FaissIndex(database, world.folder / "index", MEMORY)
    try:
        project = database.project(await database.write(ensure_project))
        return await Search(embedder, index).find(project, [world.store_id], [query], limit=3)
    finally:
        await index.close()


async def test_files_of_another_model_are_found_by_their_words_only(
    database_url: str, tmp_path: Path
) -> None:
    world = await ingested(database_url, tmp_path)
    async with opened(world.url, world.clock) as database:
        likeness = HashEmbedder(32, model="new", weight=1.0)
        unlike = await find(database, world, likeness, "speaks of matter 21")
        assert {hit.score for hit in unlike} == {0.0}
        words = HashEmbedder(32, model="new", weight=0.3)
        best, *_ = await find(database, world, words, "Line 3 speaks of matter 21")
        assert best.text == "Line 3 speaks of matter 21."


async def test_reindexing_replaces_every_vector_and_is_done_once(
    database_url: str, tmp_path: Path
) -> None:
    world = await ingested(database_url, tmp_path)
    new = HashEmbedder(32, model="new", weight=1.0)
    async with opened(world.url, world.clock) as database:
        assert [step async for step in reindex(database, new)][-1].done == 1
        row = await database.read(row_of, world.row_id)
        assert (row.embedding_model, row.dimensions) == ("new", 32)
        best, *_ = await find(database, world, new, "Line 3 speaks of matter 21.")
        assert best.text == "Line 3 speaks of matter 21."
        assert [step.total async for step in reindex(database, new)] == [0]


async def test_a_reindexing_that_broke_off_is_begun_again(
    database_url: str, tmp_path: Path
) -> None:
    world = await ingested(database_url, tmp_path)
    new = HashEmbedder(32, model="new")
    new.fails("The embedder sleeps.")
    async with opened(world.url, world.clock) as database:
        with pytest.raises(EmbeddingError, match="The embedder sleeps"):
            [step async for step in reindex(database, new)]
        assert (await database.read(row_of, world.row_id)).embedding_model is None
        assert [step async for step in reindex(database, new)][-1].total == 1
        assert (await database.read(row_of, world.row_id)).embedding_model == "new"
