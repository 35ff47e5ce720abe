"""`kill -9` of a server that ingests, again and again: in the end every chunk is there once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import create_engine, text

from tests.faults.processes import KEY, Fleet, Server, until
from tests.support.documents import handbook_pdf, report_docx
from threadloom.testing.upstream import Upstream

LIVES = {"sqlite": (0.0, 0.15, 0.35, 0.6, 1.0), "postgresql": (0.35,)}
"""Seconds that the server lives, once it answers, until it is killed. One database sees all stages."""
SMALL_CHUNKS = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
}
NOTES = " ".join(f"Pump {number} stands in hall {number * 7}." for number in range(300))
CHUNKS = (
    "SELECT f.file_id, c.position, c.text, c.vectors FROM chunks c"
    " JOIN vector_store_files f ON f.seq = c.store_file_seq ORDER BY 1, 2"
)
Row = tuple[str, int, str, bytes]

pytestmark = pytest.mark.timeout(180)


def documents(folder: Path) -> dict[str, bytes]:
    """Of three kinds; what embeds the notes takes its time."""
    handbook_pdf(folder / "handbook.pdf")
    report_docx(folder / "report.docx")
    return {
        "handbook.pdf": (folder / "handbook.pdf").read_bytes(),
        "report.docx": (folder / "report.docx").read_bytes(),
        "notes.txt": NOTES.replace("hall 7.", "hall 7. [[delay:0.3]]").encode(),
        "more notes.txt": NOTES[::-1].encode(),
    }


def http(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=20,
    )


async def upload(client: httpx2.AsyncClient, name: str, content: bytes) -> str:
    answer = await client.post(
        "/files", files={"file": (name, content)}, data={"purpose": "assistants"}
    )
    return answer.raise_for_status().json()["id"]


async def attach(client: httpx2.AsyncClient, files: Sequence[str]) -> str:
    store: str = (await client.post("/vector_stores", json={})).raise_for_status().json()["id"]
    batch = {"file_ids": list(files), "chunking_strategy": SMALL_CHUNKS}
    (await client.post(f"/vector_stores/{store}/file_batches", json=batch)).raise_for_status()
    return store


async def counts(server: Server, store: str) -> dict[str, int]:
    async with http(server) as client:
        return (await client.get(f"/vector_stores/{store}")).json()["file_counts"]


async def completed(server: Server, store: str, files: int) -> None:
    async def all_done() -> bool:
        return (await counts(server, store))["completed"] == files

    await until(all_done, "all files are completed", within=60, every=0.25)


def chunks(fleet: Fleet) -> list[Row]:
    engine = create_engine(fleet.database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return [
                (row[0], row[1], row[2], bytes(row[3])) for row in connection.execute(text(CHUNKS))
            ]
    finally:
        engine.dispose()


async def test_every_chunk_is_stored_once_however_often_the_server_is_killed(
    fleet: Fleet, upstream: Upstream, tmp_path: Path
) -> None:
    settings = {
        "THREADLOOM_EMBEDDINGS__BASE_URL": upstream.base_url,
        "THREADLOOM_EMBEDDINGS__MODEL": "scripted",
        "THREADLOOM_EMBEDDINGS__BATCH": "8",
    }
    server = fleet.serve(settings)
    await server.ready()
    async with http(server) as client:
        files = [await upload(client, *one) for one in documents(tmp_path).items()]
        doomed = await attach(client, files)
    for life in LIVES[urlsplit(fleet.database_url).scheme]:
        await asyncio.sleep(life)
        server.kill()
        server.start()
        await server.ready()
    await completed(server, doomed, len(files))
    survived = chunks(fleet)
    async with http(server) as client:
        (await client.delete(f"/vector_stores/{doomed}")).raise_for_status()
        undisturbed = await attach(client, files)
    await completed(server, undisturbed, len(files))
    assert len(survived) > 60
    assert survived == chunks(fleet)
