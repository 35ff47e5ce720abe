"""Runners for tests: in this process, or as operators start them."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.process import COMMAND, environment
from threadloom.config import CodeInterpreter
from threadloom.sandbox.runner import Lender, Runner, listening
from threadloom.sandbox.visits import QUIET_SECONDS

MEMORY = 384 * 1024**2


@pytest.fixture
def folder() -> Generator[Path]:
    """For sockets: their paths have 100 characters at most, and pytest's own folders are too deep."""
    path = Path(tempfile.mkdtemp(prefix="tl-runner-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@dataclass
class Process:
    """`threadloom sandbox serve`."""

    process: subprocess.Popen[str]
    said: str

    @property
    def name(self) -> str:
        """As its containers name it."""
        return f"{os.uname().nodename} {self.process.pid}"


@contextmanager
def started(folder: Path, url: str, token: str | None = None) -> Generator[Process]:
    """Until it listens; killed at the end, if it still runs."""
    prefix = "THREADLOOM_CODE_INTERPRETER__"
    settings = {"RUNNER__URL": url, "POOL": "0", "MEMORY": str(MEMORY), "DISK": "67108864"}
    settings |= {"RUNNER__TOKEN": token} if token else {}
    process = subprocess.Popen(
        [COMMAND, "sandbox", "serve"],
        cwd=folder,
        env=environment(**{prefix + name: value for name, value in settings.items()}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "listens on" in said, said + process.stderr.read()
        yield Process(process, said)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@asynccontextmanager
async def running(
    lender: Lender, settings: CodeInterpreter, *, quiet: float = QUIET_SECONDS
) -> AsyncGenerator[None]:
    """A runner in this process."""
    stopped = asyncio.Event()
    with listening(settings.runner) as bound:
        runner = Runner(lender, settings, quiet=quiet)
        serving = asyncio.create_task(runner.serve(bound, stopped))
        try:
            yield
        finally:
            stopped.set()
            await serving
