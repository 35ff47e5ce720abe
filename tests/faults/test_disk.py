"""A server alone on a disk that gets full: it refuses what it cannot store, serves what it has, and goes on by itself."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.faults.client import Client, check_told_once
from tests.faults.cluster import small_disk
from tests.faults.processes import Fleet, until
from threadloom.testing.upstream import Upstream

CONTENT = bytes(range(256)) * 400
ENOUGH = 40
"""Writes; the first of them find place in what SQLite has already."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
async def test_a_full_disk_costs_nothing_that_was_stored(
    tmp_path: Path, upstream: Upstream
) -> None:
    with small_disk(24) as disk:
        data = disk.folder / "data"
        fleet = Fleet(tmp_path, f"sqlite:///{data}/threadloom.db", upstream.base_url)
        server = fleet.serve({"THREADLOOM_DATA_DIR": str(data)})
        try:
            await server.ready()
            async with Client(server) as client:
                file_id = await client.upload("one.bin", CONTENT)
                run = await client.begin("[[text:Hello there]]")
                await client.reaches(run, "completed")
                disk.fill()
                statuses = [await upload_status(client, number) for number in range(ENOUGH)]
                assert set(statuses) <= {200, 503, 507}
                assert statuses[-1] != 200
                assert await client.content(file_id) == CONTENT
                await check_told_once(client, run, "Hello there")
                disk.free()

                async def works_again() -> bool:
                    return await upload_status(client, ENOUGH) == 200

                await until(works_again, "files are taken again", within=20)
                listed = await client.get("/files")
                for file in listed["data"]:
                    assert len(await client.content(file["id"])) == file["bytes"]
                assert len(listed["data"]) == 1 + statuses.count(200) + 1
                again = await client.begin("[[text:Hello again]]")
                await client.reaches(again, "completed")
        finally:
            fleet.stop()
        with closing(sqlite3.connect(data / "threadloom.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def upload_status(client: Client, number: int) -> int:
    """Of an upload, and of a thread with a long message beside it: the worse of both."""
    message = {"role": "user", "content": "x" * 20_000}
    thread = await client.try_post("/threads", {"messages": [message]})
    file = await client.try_upload(f"{number}.bin", CONTENT)
    assert all(complete(answer) for answer in (thread, file))
    assert thread.status_code in (200, 503, 507), thread.text
    return file.status_code


def complete(answer: httpx2.Response) -> bool:
    """Made, or refused as OpenAI would have drawn it, and told when to come again."""
    return answer.is_success or bool(
        answer.json()["error"]["message"] and "retry-after" in answer.headers
    )
