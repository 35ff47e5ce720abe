"""A container engine that takes connections and never answers."""

import asyncio
import socket
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from threadloom.config import CodeInterpreter
from threadloom.sandbox import engine, sessions
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.session import SandboxUnavailable
from threadloom.sandbox.sessions import Sessions


@pytest.fixture
def hung() -> Generator[CodeInterpreter]:
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder) / "docker.sock"
        listening.bind(str(path))
        listening.listen(100)
        yield CodeInterpreter(pool=1, docker_host=f"unix://{path}")


async def use(sandbox: Sessions, key: str) -> None:
    async with sandbox.session(key):
        pytest.fail("it has none")


async def test_callers_do_not_wait_for_it_one_after_the_other(
    hung: CodeInterpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TIMEOUT", 1)
    sandbox = Sessions(hung, Docker(hung))
    async with asyncio.timeout(18):
        uses = (use(sandbox, f"key {number}") for number in range(20))
        refusals = await asyncio.gather(*uses, return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {SandboxUnavailable}
    await sandbox.close()


async def test_the_end_does_not_wait_for_it(
    hung: CodeInterpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CLOSE_SECONDS", 0.1)
    sandbox = Sessions(hung, Docker(hung))
    using = asyncio.create_task(use(sandbox, "key"))
    await asyncio.sleep(0.1)
    using.cancel()
    with suppress(asyncio.CancelledError):
        await using
    async with asyncio.timeout(20):
        await sandbox.close()


PROCESS = """
import asyncio, sys
from threadloom.config import CodeInterpreter
from threadloom.sandbox.docker import Docker

async def work():
    async with asyncio.timeout(0.2):
        await Docker(CodeInterpreter(docker_host=sys.argv[1])).check()

asyncio.run(work())
"""


async def test_no_process_waits_for_it_at_its_end(hung: CodeInterpreter) -> None:
    command = (sys.executable, "-c", PROCESS, str(hung.docker_host))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert said.decode().splitlines()[-1] == "TimeoutError"
