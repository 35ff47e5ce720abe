"""Real processes with real sandboxes: an analysis from file to chart, and cells that are stopped or lost."""

import asyncio
import io
import json
import os
import platform
import zipfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.client import Client, Json, Started
from tests.faults.processes import Fleet, Process, Server, until
from tests.support.engine import containers, remaining, small

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

CODE = {"type": "code_interpreter"}
PNG = b"\x89PNG\r\n\x1a\n"
THREADS = 8
TABLE = b"month,sales\n2024-01,3\n2024-02,5\n2024-03,9\n"
SMALL = small()
REAL = {
    f"THREADLOOM_CODE_INTERPRETER__{name}": value
    for name, value in {
        "RUNTIME": "docker",
        "POOL": "0",
        "MEMORY": str(SMALL.memory),
        "DISK": str(SMALL.disk),
        "MAX_SESSIONS": str(THREADS),
    }.items()
}
DRAW = """\
import pandas as pd
table = pd.read_csv("/mnt/data/sales.csv")
table.plot(x="month", y="sales")
print("sum", table.sales.sum())
"""
SAVE = """\
table["double"] = table.sales * 2
table.to_csv("/mnt/data/double.csv", index=False)
table.to_excel("/mnt/data/double.xlsx", index=False)
"""
KEEP = """\
name = {name!r}
with open("/mnt/data/name.txt", "w") as file:
    file.write(name)
"""
TELL = """\
import os
print(name, open("/mnt/data/name.txt").read(), *sorted(os.listdir("/mnt/data")))
"""
FOR_EVER = "while True: pass"
FOR_A_WHILE = """\
import time
end = time.process_time() + 4
while time.process_time() < end: pass
print("over")
"""
FREED_WITHIN = 10.0
IDLE = 0.1
"""The share of a processor that counts as none."""
BUSY = 0.2
"""The share that code gets at least which does not rest, beside all that runs here."""
PATIENCE = 180.0
"""Seconds that a run may take: sandboxes that start at once on a busy machine take a minute."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Analyst:
    """A user whose assistant runs the code that messages have, and then says what it heard."""

    client: Client
    assistant: str

    async def thread(self) -> str:
        return (await self.client.post("/threads", {}))["id"]

    async def begin(self, thread: str, code: str, *file_ids: str) -> Started:
        """A run that calls the tool once."""
        message = {
            "role": "user",
            "content": f"[[tool:code_interpreter {json.dumps({'code': code})}]]",
            "attachments": [{"file_id": file_id, "tools": [CODE]} for file_id in file_ids],
        }
        await self.client.post(f"/threads/{thread}/messages", message)
        run = await self.client.post(f"/threads/{thread}/runs", {"assistant_id": self.assistant})
        return Started(run["id"], thread)

    async def answer(self, run: Started) -> list[Json]:
        """The content of a run's last message."""
        await self.client.reaches(run, "completed", within=PATIENCE)
        return (await self.client.messages(run))[-1]["content"]

    async def ask(self, thread: str, code: str, *file_ids: str) -> list[Json]:
        return await self.answer(await self.begin(thread, code, *file_ids))


@asynccontextmanager
async def analyst(server: Server) -> AsyncGenerator[Analyst]:
    async with Client(server) as client:
        made = await client.post("/assistants", {"model": "scripted", "tools": [CODE]})
        yield Analyst(client, made["id"])


def text_of(content: list[Json]) -> str:
    """What the code printed, as the model quoted it."""
    return content[-1]["text"]["value"].removeprefix("The tool answered: ").partition("\n")[0]


def owner(process: Process) -> str:
    """As its containers name it."""
    return f"{platform.node()} {process.pid}"


async def busy_container(process: Process) -> str:
    """The container in which code of the process's begins to keep a processor busy."""
    found: list[str] = []

    async def is_busy() -> bool:
        found[:] = [each.id for each in await containers(SMALL, owner(process))]
        return bool(found) and await load(found[0]) > BUSY

    await until(is_busy, "the code runs", within=PATIENCE)
    return found[0]


async def load(container: str) -> float:
    """The processors that a container uses now."""
    before = ticks(container)
    await asyncio.sleep(0.2)
    return (ticks(container) - before) / TICKS / 0.2


def ticks(container: str) -> int:
    """Processor time of a container's processes."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if container in (process / "cgroup").read_text():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
    return total


async def test_a_table_becomes_a_chart_and_files(fleet: Fleet) -> None:
    server = fleet.serve(REAL)
    await server.ready()
    name = owner(server)
    async with analyst(server) as user:
        thread, file_id = await user.thread(), await user.client.upload("sales.csv", TABLE)
        picture, text = await user.ask(thread, DRAW, file_id)
        assert (await user.client.content(picture["image_file"]["file_id"])).startswith(PNG)
        assert text_of([text]) == "sum 17"
        by_id = await user.ask(thread, f"print(open('/mnt/data/{file_id}').readline(), len(table))")
        assert text_of(by_id) == "month,sales"
        annotations = (await user.ask(thread, SAVE))[-1]["text"]["annotations"]
        links = {one["text"]: one["file_path"]["file_id"] for one in annotations}
        assert sorted(links) == [f"sandbox:/mnt/data/double.{kind}" for kind in ("csv", "xlsx")]
        table, workbook = [await user.client.content(links[each]) for each in sorted(links)]
        assert table.splitlines()[:2] == [b"month,sales,double", b"2024-01,3,6"]
        assert "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(workbook)).namelist()
    server.terminate()
    await server.ended(within=20)
    assert not await remaining(SMALL, name)


async def test_cancelling_frees_the_processor(on_sqlite: Fleet) -> None:
    server = on_sqlite.serve(REAL)
    await server.ready()
    async with analyst(server) as user:
        thread = await user.thread()
        await user.ask(thread, KEEP.format(name="kept"))
        run = await user.begin(thread, FOR_EVER)
        container = await busy_container(server)
        await user.client.post(f"{run.path}/cancel")

        async def is_idle() -> bool:
            return await load(container) < IDLE

        await until(is_idle, "the processor is free", within=FREED_WITHIN)
        await user.client.reaches(run, "cancelled")
        assert text_of(await user.ask(thread, TELL)) == "kept kept name.txt"


async def test_a_killed_worker_leaves_no_sandbox_and_its_run_goes_on(on_postgres: Fleet) -> None:
    server = on_postgres.serve(with_worker=False)
    a, b = on_postgres.worker("a", REAL), on_postgres.worker("b", REAL)
    await asyncio.gather(server.ready(), a.ready(), b.ready())
    b.pause()
    async with analyst(server) as user:
        thread = await user.thread()
        await user.ask(thread, KEEP.format(name="kept"))
        run = await user.begin(thread, FOR_A_WHILE)
        await busy_container(a)
        name = owner(a)
        a.kill()
        b.resume()
        assert not await remaining(SMALL, name)
        assert text_of(await user.answer(run)) == "over"
        told = await user.ask(thread, "print(open('/mnt/data/name.txt').read())")
        assert text_of(told) == "kept"


async def test_threads_at_once_never_cross(on_sqlite: Fleet) -> None:
    server = on_sqlite.serve(REAL)
    await server.ready()
    async with analyst(server) as user:
        threads = [await user.thread() for _ in range(THREADS)]
        for code in (KEEP, TELL):
            answers = await asyncio.gather(
                *(user.ask(thread, code.replace("{name!r}", repr(thread))) for thread in threads)
            )
        assert [text_of(answer) for answer in answers] == [
            f"{thread} {thread} name.txt" for thread in threads
        ]
