"""Files on their way into vector stores, through any crash."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from tests.runs.workers import DyingDatabase, opened
from threadloom.api.keys import ensure_project
from threadloom.blobs import Blobs, open_blobs
from threadloom.config import FileSearch, Settings
from threadloom.db.database import Database
from threadloom.db.rows import (
    ChunkRow,
    FileRow,
    StrayChunksRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from threadloom.db.tx import ProjectTx, Tx
from threadloom.ids import RandomIds
from threadloom.leases import Claim, claim, renew
from threadloom.retrieval.embedder import Windows
from threadloom.retrieval.ingest import MAX_CLAIMS, MAX_TRIES, Ingestion, begin
from threadloom.retrieval.parsing import Parser
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.testing import FrozenClock, HashEmbedder, LineParser
from threadloom.types.vector_stores import StaticChunking

TEXT = "\n".join(f"Line {number} speaks of matter {number * 7}." for number in range(9))
LEASE = 15.0
Stored = list[tuple[int, str, int, int, bytes]]


class WaitingEmbedder(HashEmbedder):
    """Answers once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        self.asked.set()
        await self.let.wait()
        return await super().embed_passages(texts)


@dataclass(frozen=True)
class World:
    """A project with one file that is due for ingestion."""

    url: str
    clock: FrozenClock
    blobs: Blobs
    folder: Path
    store_id: str
    file_id: str

    @property
    def row_id(self) -> str:
        return f"{self.store_id}/{self.file_id}"

    def ingestion(
        self,
        database: Database,
        embedder: HashEmbedder | None = None,
        parser: Parser | None = None,
    ) -> Ingestion:
        return Ingestion(
            database,
            self.blobs,
            parser or LineParser(),
            embedder or HashEmbedder(),
            FileSearch(),
            folder=self.folder / "tmp",
            lease=LEASE,
        )


async def one_piece(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def prepare(url: str, folder: Path, text: str = TEXT) -> World:
    clock = FrozenClock()
    blobs = open_blobs(Settings(data_dir=folder))
    key = blobs.new_key()
    size = await blobs.write(key, one_piece(text))
    async with opened(url, clock) as database:
        project = database.project(await database.write(ensure_project))
        store_id, file_id = await project.write(attach_one, key, size)
    return World(url, clock, blobs, folder, store_id, file_id)


def attach_one(tx: ProjectTx, key: str, size: int) -> tuple[str, str]:
    file = FileRow(
        id=tx.ids.new("file-"),
        project_id=tx.project_id,
        created_at=tx.now,
        purpose="assistants",
        filename="lines.txt",
        bytes=size,
        blobs=[key],
    )
    store = VectorStoreRow(
        id=tx.ids.new("vs_"),
        project_id=tx.project_id,
        created_at=tx.now,
        last_active_at=tx.now,
        metadata_={},
    )
    tx.session.add_all([file, store])
    tx.session.flush()
    tx.session.add(
        VectorStoreFileRow(
            id=f"{store.id}/{file.id}",
            project_id=tx.project_id,
            created_at=tx.now,
            vector_store_id=store.id,
            file_id=file.id,
            status="in_progress",
            usage_bytes=0,
            attributes={},
            chunking_strategy=StaticChunking(),
            due_at=tx.clock.now(),
        )
    )
    return store.id, file.id


@asynccontextmanager
async def ingesting(ingestion: Ingestion) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ingestion.run())
        try:
            yield
        finally:
            ingestion.drain()


def row_of(tx: Tx, row_id: str) -> VectorStoreFileRow:
    return tx.session.scalars(
        select(VectorStoreFileRow).where(VectorStoreFileRow.id == row_id)
    ).one()


def chunks_of(tx: Tx, row_id: str) -> Stored:
    rows = tx.session.scalars(
        select(ChunkRow)
        .join(VectorStoreFileRow, VectorStoreFileRow.seq == ChunkRow.store_file_seq)
        .where(VectorStoreFileRow.id == row_id)
        .order_by(ChunkRow.position)
    )
    return [(row.position, row.text, row.start, row.end, row.vectors) for row in rows]


def generation_of(tx: Tx, store_id: str) -> int:
    return tx.session.scalars(
        select(VectorStoreRow.generation).where(VectorStoreRow.id == store_id)
    ).one()


async def settled(database: Database, world: World) -> VectorStoreFileRow:
    """The file's row once it is no longer in progress."""
    while (row := await database.read(row_of, world.row_id)).status == "in_progress":  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return row


async def test_a_file_is_stored_in_chunks_and_completed(database_url: str, tmp_path: Path) -> None:
    world = await prepare(database_url, tmp_path)
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database)):
            row = await settled(database, world)
        chunks = await database.read(chunks_of, world.row_id)
        generation = await database.read(generation_of, world.store_id)
    assert (row.status, row.progress, row.due_at, row.last_error) == ("completed", 1.0, None, None)
    assert (row.embedding_model, row.dimensions) == (HashEmbedder().model, 64)
    assert [text for _, text, *_ in chunks] == TEXT.splitlines()
    assert [position for position, *_ in chunks] == list(range(9))
    assert row.usage_bytes > len(TEXT)
    assert generation == 1


async def crashed_at(world: World, commit: int, *, reached: bool) -> bool:
    """Ingest in a process that is lost at one of its commits; false when it was through before."""
    dying = DyingDatabase(world.url, clock=world.clock, ids=RandomIds(), at=commit, reached=reached)
    try:
        working = asyncio.create_task(world.ingestion(dying).run())
        through = asyncio.create_task(settled(dying, world))
        lost = asyncio.create_task(dying.lost.wait())
        await asyncio.wait([through, lost], return_when=asyncio.FIRST_COMPLETED)
        for task in (working, through, lost):
            task.cancel()
        await asyncio.wait([working, through, lost])
        return dying.came_to_its_end
    finally:
        await dying.close()


@pytest.mark.parametrize("reached", [True, False], ids=["committed", "not committed"])
@pytest.mark.parametrize("commit", range(1, 8))
async def test_a_crash_at_any_commit_changes_nothing_in_the_end(
    database_url: str, tmp_path: Path, commit: int, reached: bool
) -> None:
    world = await prepare(database_url, tmp_path)
    assert await crashed_at(world, commit, reached=reached)
    world.clock.advance(LEASE + 1)
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database)):
            row = await settled(database, world)
        chunks = await database.read(chunks_of, world.row_id)
    assert row.status == "completed"
    assert [text for _, text, *_ in chunks] == TEXT.splitlines()
    assert [position for position, *_ in chunks] == list(range(9))
    vectors = await HashEmbedder().embed_passages(TEXT.splitlines())
    assert [one for *_, one in chunks] == [one.astype("<f2").tobytes() for one in vectors]


async def test_a_file_goes_on_where_a_lost_process_stopped(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    assert await crashed_at(world, 5, reached=True)  # claim, begin, three groups of two
    world.clock.advance(LEASE + 1)
    embedder = HashEmbedder()
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, embedder)),
    ):
        await settled(database, world)
    assert embedder.passages == 3


async def test_a_file_that_was_begun_with_another_model_starts_over(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    assert await crashed_at(world, 5, reached=True)
    world.clock.advance(LEASE + 1)
    embedder = HashEmbedder(32, model="another")
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, embedder)),
    ):
        row = await settled(database, world)
    assert embedder.passages == 9
    assert (row.embedding_model, row.dimensions) == ("another", 32)


async def test_many_chunks_of_another_model_are_forgotten_in_pieces(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    async with opened(world.url, world.clock) as database:
        await database.write(begin_long_file, world.row_id, 1_200)
        counts = [1_200]
        while counts[-1]:
            [claimed] = await database.write(claim, VectorStoreFileRow, lease=LEASE, limit=1)
            await database.write(begin, claimed, "another")
            counts.append(len(await database.read(chunks_of, world.row_id)))
        assert counts == [1_200, 700, 200, 0]
        world.clock.advance(LEASE + 1)
        async with ingesting(world.ingestion(database, HashEmbedder(model="another"))):
            row = await settled(database, world)
        chunks = await database.read(chunks_of, world.row_id)
    assert (row.status, row.embedding_model) == ("completed", "another")
    assert [text for _, text, *_ in chunks] == TEXT.splitlines()


async def test_a_file_whose_text_is_read_otherwise_starts_over(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    assert await crashed_at(world, 5, reached=True)
    world.clock.advance(LEASE + 1)
    async with opened(world.url, world.clock) as database:
        await database.write(change_chunks, "as an older parser read it")
        async with ingesting(world.ingestion(database)):
            await settled(database, world)
        chunks = await database.read(chunks_of, world.row_id)
    assert [text for _, text, *_ in chunks] == TEXT.splitlines()


async def test_an_embedder_that_does_not_answer_is_asked_again(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    embedder = HashEmbedder()
    embedder.fails("The embedder sleeps.", "The embedder sleeps.")
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, embedder)),
    ):
        for _ in range(2):
            await postponed(database, world)
            world.clock.advance(60)
        row = await settled(database, world)
    assert row.status == "completed"


async def test_a_parser_that_cannot_start_is_started_again_later(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await prepare(database_url, tmp_path)
    parsers = Parsers(FileSearch())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, parser=parsers)),
    ):
        await postponed(database, world)
        monkeypatch.undo()
        world.clock.advance(60)
        row = await settled(database, world)
    await parsers.close()
    assert (row.status, row.last_error) == ("completed", None)


async def test_a_late_renewal_does_not_take_back_a_file_that_is_tried_again_later(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    embedder = HashEmbedder()
    embedder.fails("The embedder sleeps.")
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, embedder)),
    ):
        await postponed(database, world)
        due_at = (await database.read(row_of, world.row_id)).due_at
        claims = [Claim(world.row_id, 1)]
        assert not await database.write(renew, VectorStoreFileRow, claims, lease=LEASE)
        assert (await database.read(row_of, world.row_id)).due_at == due_at


async def test_an_embedder_that_never_answers_fails_the_file_in_the_end(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    embedder = HashEmbedder()
    embedder.fails(*["The embedder sleeps."] * MAX_TRIES)
    async with (
        opened(world.url, world.clock) as database,
        ingesting(world.ingestion(database, embedder)),
    ):
        for _ in range(MAX_TRIES - 1):
            await postponed(database, world)
            world.clock.advance(60)
        row = await settled(database, world)
    assert row.status == "failed"
    assert row.last_error is not None
    assert (row.last_error.code, row.last_error.message) == (
        "server_error",
        "The embedder sleeps. Tried 5 times.",
    )


async def test_a_file_that_takes_its_process_down_again_and_again_is_failed(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    for _ in range(MAX_CLAIMS):
        assert await crashed_at(world, 3, reached=False)
        world.clock.advance(LEASE + 1)
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database)):
            row = await settled(database, world)
        chunks = await database.read(chunks_of, world.row_id)
    assert row.last_error is not None
    assert row.last_error.message == "Processing was begun 20 times and broke off."
    assert chunks == []


async def test_a_document_that_cannot_be_read_fails_with_its_reason(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path, "One\nTwo\nThree\n!broken")
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database)):
            row = await settled(database, world)
        strays = await database.read(strays_of)
    assert row.last_error is not None
    assert (row.status, row.last_error.message) == (
        "failed",
        "The file has a broken line. Mend it.",
    )
    assert row.due_at is None
    assert strays == [row.seq]


async def test_bytes_that_are_gone_fail_the_file_in_the_end(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    async with opened(world.url, world.clock) as database:
        await world.blobs.delete(await database.read(blobs_of, world.file_id))
        async with ingesting(world.ingestion(database)):
            for _ in range(MAX_TRIES - 1):
                await postponed(database, world)
                world.clock.advance(60)
            row = await settled(database, world)
    assert row.status == "failed"


async def test_a_file_that_is_detached_meanwhile_leaves_nothing(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    embedder = WaitingEmbedder()
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database, embedder)):
            await embedder.asked.wait()
            await database.write(detach, world.row_id)
            embedder.let.set()
        assert await database.read(chunks_of, world.row_id) == []


async def test_a_process_that_stops_hands_its_file_to_the_next_at_once(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    embedder = WaitingEmbedder()
    async with opened(world.url, world.clock) as database:
        async with ingesting(world.ingestion(database, embedder)):
            await embedder.asked.wait()
        row = await database.read(row_of, world.row_id)
        assert (row.status, row.attempts, row.due_at) == ("in_progress", 0, world.clock.now())
        async with ingesting(world.ingestion(database)):
            assert (await settled(database, world)).status == "completed"


async def test_copies_that_killed_processes_left_are_removed(
    database_url: str, tmp_path: Path
) -> None:
    world = await prepare(database_url, tmp_path)
    folder = tmp_path / "tmp"
    folder.mkdir()
    old, new, foreign = folder / "1-1", folder / "2-1", folder / "0-of-others"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    for copy, age in ((old, 2 * 3_600), (new, 60)):
        copy.write_text("secret")
        changed = world.clock.now() - age
        os.utime(copy, (changed, changed))
    async with opened(world.url, world.clock) as database:
        await world.ingestion(database).sweep()
    assert not old.exists()
    assert new.exists()


async def postponed(database: Database, world: World) -> None:
    """Until the file is due later, and nobody holds it."""
    while not is_postponed(await database.read(row_of, world.row_id), world):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def is_postponed(row: VectorStoreFileRow, world: World) -> bool:
    due_at, now = row.due_at or 0.0, world.clock.now()
    return due_at > now and due_at != now + LEASE


def strays_of(tx: Tx) -> list[int]:
    return list(tx.session.scalars(select(StrayChunksRow.store_file_seq)))


def blobs_of(tx: Tx, file_id: str) -> list[str]:
    return tx.session.scalars(select(FileRow.blobs).where(FileRow.id == file_id)).one()


def begin_long_file(tx: Tx, row_id: str, chunks: int) -> None:
    """As a process left it that embedded with an older model."""
    row = row_of(tx, row_id)
    row.embedding_model, row.progress = "old", 0.5
    tx.session.add_all(
        ChunkRow(
            store_file_seq=row.seq,
            position=position,
            text="text",
            start=0,
            end=4,
            vectors=b"",
            terms=b"",
        )
        for position in range(chunks)
    )


def change_chunks(tx: Tx, text: str) -> None:
    tx.session.execute(update(ChunkRow).values(text=text))


def detach(tx: Tx, row_id: str) -> None:
    tx.session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.id == row_id))
