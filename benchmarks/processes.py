"""The processes under measurement: started for real, with their processor time and memory."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.postgres import running_postgres

Database = Literal["sqlite", "postgresql"]
KEY = "sk-benchmark-benchmark-benchmark"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0
PORT = re.compile(r"http://127\.0\.0\.1:(\d+)")
THREADLOOM = str(Path(sys.executable).with_name("threadloom"))


@dataclass(frozen=True)
class Process:
    """A started program and what it wrote."""

    popen: subprocess.Popen[bytes]
    output: Path

    def cpu(self) -> float:
        """Processor seconds of all its threads so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def pss(self) -> float:
        """Memory in MiB; what is shared with others counts in part."""
        rollup = Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert match is not None
        return int(match[1]) / 1024

    def wait_for(self, pattern: re.Pattern[str]) -> str:
        """The first group of what the pattern finds in the output, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.popen.poll() is None:
            if match := pattern.search(self.output.read_text()):
                return match[1]
            time.sleep(0.005)
        raise RuntimeError(f"{self.popen.args!r} did not start:\n{self.output.read_text()}")


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Generator[Process]:
    """Start a program in `folder`, end it afterwards."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as output:
        popen = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,  # noqa: TID251 - a child process needs its PATH
                "PYTHONPATH": f"{Path.cwd()}:{Path.cwd()}/src",
                **(environment or {}),
            },
            stdout=output,
            stderr=output,
        )
    try:
        yield Process(popen, Path(output.name))
    finally:
        popen.terminate()
        try:
            popen.wait(10)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


@dataclass(frozen=True)
class Serving:
    """Something that listens, and the processes it consists of."""

    port: int
    processes: tuple[Process, ...]

    def cpu(self) -> float:
        return sum(process.cpu() for process in self.processes)

    def pss(self) -> float:
        return sum(process.pss() for process in self.processes)


@contextmanager
def upstream() -> Generator[Serving]:
    """The bare scripted upstream: what every ratio is against."""
    command = [sys.executable, "-m", "threadloom.testing.upstream"]
    with tempfile.TemporaryDirectory() as folder, running(command, Path(folder)) as process:
        yield Serving(int(process.wait_for(PORT)), (process,))


@contextmanager
def minimal_app() -> Generator[Serving]:
    """The small FastAPI and SQLAlchemy app that requests are compared with."""
    command = [sys.executable, "-m", "benchmarks.minimal_app"]
    with tempfile.TemporaryDirectory() as folder, running(command, Path(folder)) as process:
        yield Serving(int(process.wait_for(PORT)), (process,))


def server_environment(upstream_port: int, database_url: str | None) -> dict[str, str]:
    environment = {
        "THREADLOOM_UPSTREAM__BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "THREADLOOM_AUTH__ADMIN_KEY": KEY,
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none",  # its spares would be measured too
    }
    if database_url is not None:
        environment["THREADLOOM_DATABASE__URL"] = database_url
    return environment


@contextmanager
def server(upstream_port: int, folder: Path, database_url: str | None = None) -> Generator[Serving]:
    """`threadloom serve`; on PostgreSQL the worker is a process of its own."""
    environment = server_environment(upstream_port, database_url)
    options = ["--port", "0", "--data-dir", str(folder / "data")]
    split = database_url is not None
    with ExitStack() as stack:
        serve = [THREADLOOM, "serve", *options, *(["--no-worker"] if split else [])]
        processes = [stack.enter_context(running(serve, folder, environment))]
        port = int(processes[0].wait_for(re.compile(r"listens on http://127\.0\.0\.1:(\d+)")))
        if split:
            work = [THREADLOOM, "worker", "--data-dir", str(folder / "data")]
            processes.append(stack.enter_context(running(work, folder, environment)))
            processes[1].wait_for(re.compile("Threadloom (works)"))
        yield Serving(port, tuple(processes))


@contextmanager
def fresh_server(upstream_port: int, database: Database) -> Generator[Serving]:
    """A server on an empty database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if database == "postgresql":
            postgres = stack.enter_context(running_postgres())
            url = stack.enter_context(postgres.database())
        yield stack.enter_context(server(upstream_port, folder, url))
