"""Every hostile file at once, against a server that goes on answering. `pytest -s` prints what it cost."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.faults.processes import Fleet, Server, until
from tests.faults.test_ingestion import http
from tests.support.hostile import HOSTILE
from threadloom.testing.upstream import Upstream

ALLOWED = 200 * 1024
"""KiB that the server may have grown by in the end."""
LOOK_EVERY = 0.05
PATIENCE = 240.0

pytestmark = pytest.mark.timeout(300)


def resident(server: Server) -> int:
    """KiB of the server's own process."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@asynccontextmanager
async def looked_after(server: Server) -> AsyncGenerator[list[float]]:
    """Asks for its health all the time; the seconds that each answer took."""
    waits: list[float] = []

    async def look(client: httpx2.AsyncClient) -> None:
        while True:
            began = time.perf_counter()
            (await client.get(f"http://127.0.0.1:{server.port}/healthz")).raise_for_status()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(LOOK_EVERY)

    async with httpx2.AsyncClient(timeout=10) as client, asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look(client))
        yield waits
        looking.cancel()


async def upload(client: httpx2.AsyncClient, name: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = await client.post(
            "/files", files={"file": (name, file)}, data={"purpose": "assistants"}
        )
    return answer.raise_for_status().json()["id"]


async def test_hostile_files_end_with_a_reason_and_harm_nobody(
    on_sqlite: Fleet, upstream: Upstream, tmp_path: Path
) -> None:
    server = on_sqlite.serve(
        {
            "THREADLOOM_EMBEDDINGS__BASE_URL": upstream.base_url,
            "THREADLOOM_EMBEDDINGS__MODEL": "scripted",
            "THREADLOOM_FILE_SEARCH__TABLES": "true",
        }
    )
    await server.ready()
    async with http(server) as client:
        store = (await client.post("/vector_stores", json={})).json()["id"]
        path = f"/vector_stores/{store}"
        before = resident(server)
        names: dict[str, str] = {}
        async with looked_after(server) as waits:
            for name, hostile in HOSTILE.items():
                document = tmp_path / "document"
                hostile.make(document)
                file_id = await upload(client, hostile.filename, document)
                document.unlink()
                names[file_id] = name
                attached = await client.post(f"{path}/files", json={"file_id": file_id})
                attached.raise_for_status()

            async def all_done() -> bool:
                return not (await client.get(path)).json()["file_counts"]["in_progress"]

            await until(all_done, "all files came to an end", within=PATIENCE, every=0.5)
        grown = resident(server) - before
        listed = (await client.get(f"{path}/files", params={"limit": 100})).json()["data"]
    print(f"\n{len(names)} files, slowest /healthz {max(waits) * 1e3:.0f} ms, grown {grown} KiB")  # noqa: T201
    assert len(listed) == len(HOSTILE)
    for file in listed:
        expected = HOSTILE[names[file["id"]]].says
        assert (file["status"] == "completed") == (expected is None), (
            names[file["id"]],
            file["last_error"],
        )
        assert file["status"] == "completed" or file["last_error"]["message"]
    assert grown < ALLOWED
