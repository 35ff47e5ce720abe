"""The receivers of docs/webhooks.md, run as they stand there."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.api.wire import Json, post, run_to_end
from tests.compat.install import HOME, install
from tests.faults.processes import free_port, until
from tests.support.process import environment
from threadloom.testing import ScriptedModel

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
NODE = "node-7.55.0"
TYPES = ["thread.run.queued", "thread.run.in_progress", "thread.run.completed"]

pytestmark = pytest.mark.timeout(300)  # the first run installs the SDK for Node


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def python_program(folder: Path) -> list[str]:
    program = folder / "receiver.py"
    program.write_text(block("python"))
    return [sys.executable, str(program)]


def node_program(_: Path) -> list[str]:
    """Node looks for packages beside the program."""
    node = install(NODE)
    program = HOME / NODE / "receiver.mjs"
    program.write_text(block("js"))
    return [str(node), str(program)]


@asynccontextmanager
async def running(command: list[str], secret: str, port: int) -> AsyncGenerator[list[str]]:
    """What the program prints, line by line, once it listens."""
    variables = environment(OPENAI_API_KEY="unused", OPENAI_WEBHOOK_SECRET=secret, PORT=str(port))
    process = await asyncio.create_subprocess_exec(
        *command, env=variables, stdout=subprocess.PIPE, limit=2**16
    )
    assert process.stdout is not None
    lines: list[str] = []

    async def read(output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            lines.append(line.decode().strip())

    reading = asyncio.ensure_future(read(process.stdout))
    try:
        await until(lambda: is_open(port), "it listens", within=60)
        yield lines
    finally:
        process.kill()
        await process.wait()
        await reading


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("program", [python_program, node_program])
async def test_the_receiver_is_told_of_a_run(
    program: Callable[[Path], list[str]],
    http: httpx2.AsyncClient,
    model: ScriptedModel,
    tmp_path: Path,
) -> None:
    port = free_port()
    body: Json = {"name": "Documented", "url": f"http://127.0.0.1:{port}/", "event_types": TYPES}
    endpoint = await post(http, "/webhook_endpoints", body)
    model.says("Hello.")
    command = program(tmp_path)
    async with running(command, endpoint["signing_secret"], port) as lines:
        run = await run_to_end(http)
        await until(lambda: len(lines) == 3, "three events", within=30)
        assert lines == [f"{event_type} {run['id']}" for event_type in TYPES]
        async with httpx2.AsyncClient() as stranger:
            forged = await stranger.post(f"http://127.0.0.1:{port}/", content=b"{}")
            assert forged.status_code == 400
