"""What only the index in PostgreSQL does: its table, its graphs, and a start without it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, make_url, text

from tests.retrieval.index.checks import DIMENSIONS, assert_like_brute_force, some_files
from tests.retrieval.index.conftest import MEMORY, PACKED
from tests.retrieval.index.rows import MODEL, Filled, clustered, filled_store
from tests.runs.workers import opened
from threadloom.config import Settings
from threadloom.db.database import Database
from threadloom.db.engine import create_engine
from threadloom.db.rows import VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.retrieval.index.faiss_index import FaissIndex
from threadloom.retrieval.index.opening import open_index
from threadloom.retrieval.index.pgvector_graphs import TRY_LOCK, Graphs, graph_name
from threadloom.retrieval.index.pgvector_index import PAUSE, PgvectorIndex
from threadloom.retrieval.index.pgvector_table import Asked, approximate_statement, prepare
from threadloom.testing import FrozenClock

on_sqlite = pytest.mark.parametrize("kind", ["flat on sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("kind", ["pgvector on postgresql"], indirect=True)
GRAPHS = "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'hnsw%'"


def settings_with(index: str, directory: Path) -> Settings:
    return Settings.model_validate({"data_dir": directory, "file_search": {"index": index}})


@on_sqlite
async def test_the_setting_needs_postgresql(database: Database, tmp_path: Path) -> None:
    assert isinstance(open_index(settings_with("faiss", tmp_path), database), FaissIndex)
    with pytest.raises(StartError, match=r"needs PostgreSQL: set database\.url"):
        open_index(settings_with("pgvector", tmp_path), database)


@on_postgres
async def test_the_setting_needs_an_extension_that_may_be_made(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS nobody"))
        connection.execute(text("CREATE ROLE nobody LOGIN PASSWORD 'x'"))
    engine = create_engine(
        make_url(database_url).set(username="nobody", password="x").render_as_string(False)
    )
    with pytest.raises(StartError, match=r"no extension `vector`, or this role may not create it"):
        prepare(engine)
    engine.dispose()


@on_postgres
async def test_processes_that_start_at_once_make_one_table(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    chosen = settings_with("pgvector", tmp_path)
    both = await asyncio.gather(
        *(asyncio.to_thread(open_index, chosen, database) for _ in range(4))
    )
    store = await filled_store(database, *some_files(chance, 40))
    query = clustered(chance, 1, DIMENSIONS)[0]
    await asyncio.gather(*(assert_like_brute_force(one, store, query) for one in both))
    assert await database.read(windows_twice) == 0
    for one in both:
        await one.close()


def windows_twice(tx: Tx) -> int:
    doubled = "SELECT 1 FROM index_windows GROUP BY chunk_seq, embedding HAVING count(*) > 1"
    return tx.session.scalar(text(f"SELECT count(*) FROM ({doubled}) doubled")) or 0


def graphs(tx: Tx) -> list[str]:
    return list(tx.session.scalars(text(GRAPHS)))


def plan(tx: Tx, asked: Asked) -> str:
    """How PostgreSQL would search a table that is too large to be read."""
    tx.session.execute(text("SET LOCAL enable_seqscan = off"))
    tx.session.execute(text("SET LOCAL enable_sort = off"))
    statement = approximate_statement(asked.store_id, asked.model, asked.query.size)
    found = tx.session.execute(text(f"EXPLAIN {statement.text}"), asked.parameters())
    return "\n".join(found.scalars())


async def brought_up(database: Database, directory: Path, store: Filled) -> PgvectorIndex:
    prepare(database.engine)
    index = PgvectorIndex(database, directory, MEMORY, PACKED)
    query = np.ones(DIMENSIONS, np.float32)
    few = np.array([0], np.int64)
    await index.nearest(await store.state(), MODEL, query, limit=1, files=few)
    return index


@on_postgres
async def test_a_large_store_is_searched_through_a_graph_of_its_own(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 60))
    index = await brought_up(database, tmp_path, store)
    made = Graphs(database.engine)
    for _ in range(2):  # the second time it is there
        await asyncio.to_thread(made.build, store.id, MODEL, DIMENSIONS)
    [name] = await database.read(graphs)
    query = clustered(chance, 1, DIMENSIONS)[0]
    files = np.arange(1, 1000, dtype=np.int64)
    assert name in await database.read(plan, Asked(store.id, MODEL, query, 10, files))
    for query in clustered(chance, 5, DIMENSIONS):
        await assert_like_brute_force(index, store, query)
    await index.close()


@on_postgres
async def test_a_model_with_any_name_has_a_graph(database: Database, tmp_path: Path) -> None:
    prepare(database.engine)
    name = 'it\'s a :model; "quoted" -- %s %(x)s'
    store = await filled_store(database)
    await asyncio.to_thread(Graphs(database.engine).build, store.id, name, DIMENSIONS)
    query = np.ones(DIMENSIONS, np.float32)
    asked = Asked(store.id, name, query, 10, np.array([1], np.int64))
    [made] = await database.read(graphs)
    assert made in await database.read(plan, asked)


@on_postgres
async def test_a_graph_that_was_left_unfinished_is_made_again(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 5))
    index = await brought_up(database, tmp_path, store)
    made = Graphs(database.engine)
    await asyncio.to_thread(made.build, store.id, MODEL, DIMENSIONS)
    await database.write(mark_invalid)
    await asyncio.to_thread(made.build, store.id, MODEL, DIMENSIONS)
    assert await database.read(invalid_graphs) == 0
    await index.close()


@on_postgres
@pytest.mark.parametrize("obstacle", ["killed", "locked"])
async def test_a_graph_that_could_not_be_built_is_tried_again_after_a_while(
    database_url: str, tmp_path: Path, chance: np.random.Generator, obstacle: str
) -> None:
    clock = FrozenClock()
    async with opened(database_url, clock=clock) as database:
        store = await filled_store(database, *some_files(chance, 60))
        index = await brought_up(database, tmp_path, store)
        query = clustered(chance, 1, DIMENSIONS)[0]
        with database.engine.connect() as other:
            if obstacle == "killed":  # once it waits for this transaction, which might have written
                other.execute(text("LOCK TABLE index_windows IN ROW EXCLUSIVE MODE"))
                await assert_like_brute_force(index, store, query)
                while not await database.read(building_killed):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.01)
            else:
                name = graph_name(store.id, MODEL, DIMENSIONS)
                other.execute(TRY_LOCK, {"name": name})
                await assert_like_brute_force(index, store, query)
            await index.idle()
        await assert_like_brute_force(index, store, query)
        await index.idle()
        assert not await database.read(valid_graphs), "not at each search"
        clock.advance(PAUSE)
        await assert_like_brute_force(index, store, query)
        await index.idle()
        assert await database.read(valid_graphs) == 1
        await index.close()


def building_killed(tx: Tx) -> int:
    building = "query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
    found = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {building}"
    return len(tx.session.scalars(text(found)).all())


def valid_graphs(tx: Tx) -> int:
    return len(graphs(tx)) - invalid_graphs(tx)


def mark_invalid(tx: Tx) -> None:
    tx.session.execute(
        text(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%hnsw%'"
        )
    )


def invalid_graphs(tx: Tx) -> int:
    return tx.session.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) or 0


def remove_store(tx: Tx, store_id: str) -> None:
    tx.session.execute(delete(VectorStoreRow).where(VectorStoreRow.id == store_id))


def left_in_table(tx: Tx) -> int:
    both = "(SELECT count(*) FROM index_windows) + (SELECT count(*) FROM index_files)"
    return tx.session.scalar(text(f"SELECT {both}")) or 0


@on_postgres
async def test_what_is_left_of_stores_that_are_gone_is_removed_at_the_next_start(
    database: Database, tmp_path: Path, chance: np.random.Generator
) -> None:
    store = await filled_store(database, *some_files(chance, 60))
    first = await brought_up(database, tmp_path, store)
    await asyncio.to_thread(Graphs(database.engine).build, store.id, MODEL, DIMENSIONS)
    await first.close()
    await database.write(remove_store, store.id)
    assert await database.read(left_in_table)
    second = await brought_up(database, tmp_path, await filled_store(database))
    await second.idle()
    assert await database.read(left_in_table) == 0
    assert not await database.read(graphs)
    await second.close()
