"""What indexes have of deleted documents goes, though nobody searches their stores any more."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from tests.retrieval.index.checks import DIMENSIONS, some_files
from tests.retrieval.index.rows import MODEL, clustered, filled_store
from threadloom.db.database import Database
from threadloom.db.tx import Tx
from threadloom.retrieval.index import Index
from threadloom.retrieval.sweeping import IndexSweep

ON_DISK = pytest.mark.parametrize("kind", ["packed on sqlite"], indirect=True)
IN_TABLE = pytest.mark.parametrize("kind", ["pgvector on postgresql"], indirect=True)


@ON_DISK
async def test_a_file_with_vectors_of_a_removed_document_goes(
    database: Database, index: Index, tmp_path: Path, chance: np.random.Generator
) -> None:
    kept, cut = [await filled_store(database) for _ in range(2)]
    await kept.add(*some_files(chance, 20))
    gone, *_ = await cut.add(*some_files(chance, 20))
    query = clustered(chance, 1, DIMENSIONS)[0]
    for store in (kept, cut):
        await index.nearest(await store.state(), MODEL, query, limit=3, files=None)
    directory = tmp_path / "index"
    paths = {store.id: directory / f"{store.id}.index" for store in (kept, cut)}
    assert all(path.exists() for path in paths.values())
    sweep = IndexSweep(database, directory)
    await sweep.sweep()
    assert all(path.exists() for path in paths.values())
    await cut.remove(gone)
    await sweep.sweep()
    assert paths[kept.id].exists()
    assert not paths[cut.id].exists()


@IN_TABLE
async def test_rows_with_vectors_of_a_removed_document_go(
    database: Database, index: Index, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database)
    gone, *_ = await store.add(*some_files(chance, 5))
    query = clustered(chance, 1, DIMENSIONS)[0]
    await index.nearest(await store.state(), MODEL, query, limit=3, files=None)
    before = await database.read(indexed)
    assert gone in before
    await store.remove(gone)
    await IndexSweep(database, tmp_path / "index").sweep()
    assert await database.read(indexed) == before - {gone}


def indexed(tx: Tx) -> set[int]:
    """The files that the table has vectors of."""
    return set(tx.session.scalars(text("SELECT store_file_seq FROM index_windows")))
