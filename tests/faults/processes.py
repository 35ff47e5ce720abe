"""Real `threadloom` processes: started, awaited, killed; their logs stay beside the test's database."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

from tests.support.process import WITHOUT_SANDBOX

KEY = "sk-faults"
COMMAND = Path(sys.executable).with_name("threadloom")
LOOK_EVERY = 0.02
START = 120.0
NOTHING: Mapping[str, str] = {}


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str,
    *,
    within: float = 60.0,
    every: float = LOOK_EVERY,
) -> float:
    """Wait for the condition; answers with the seconds it took."""
    began = time.monotonic()
    while True:
        held = condition()
        if await held if isinstance(held, Awaitable) else held:
            return time.monotonic() - began
        if time.monotonic() - began > within:
            raise AssertionError(f"not within {within} s: {what}")
        await asyncio.sleep(every)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Process:
    """One process, which may be started again after its end."""

    def __init__(
        self, *arguments: str, folder: Path, name: str, environment: dict[str, str]
    ) -> None:
        self._arguments = arguments
        self._folder = folder
        self._environment = environment
        self._popen: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{name}.log"
        self.start()

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._popen is not None
        return self._popen

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self, variables: Mapping[str, str] = NOTHING) -> None:
        """With these variables on top, for this time only."""
        assert self._popen is None
        with self.log.open("ab") as log:
            self._started_at = log.tell()
            self._popen = subprocess.Popen(
                [COMMAND, *self._arguments],
                cwd=self._folder,
                env={**self._environment, **variables},
                stdout=log,
                stderr=log,
            )

    async def ready(self, *, within: float = START) -> "Process":
        await until(self._is_ready, f"{self._arguments} is ready", within=within)
        return self

    async def _is_ready(self) -> bool:
        assert self._running.poll() is None, f"{self._arguments} ended: {self.log.read_text()}"
        return b"Threadloom works." in self.log.read_bytes()[self._started_at :]

    def kill(self) -> None:
        """`kill -9`, also of a paused process; nothing happens to one that has ended."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None

    def pause(self) -> None:
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end."""
        self._running.terminate()

    async def ended(self, *, within: float) -> int:
        """Its exit code."""
        await until(
            lambda: self._running.poll() is not None, f"{self._arguments} ended", within=within
        )
        code: int = self._running.returncode
        self._popen = None
        return code


class Server(Process):
    """`threadloom serve` on a port that stays the same when it is started again."""

    port: int

    async def _is_ready(self) -> bool:
        assert self._running.poll() is None, f"{self._arguments} ended: {self.log.read_text()}"
        # Bare, because it is asked fifty times a second: an HTTP client costs 20 ms of processor to make.
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            with closing(writer):  # it may die before it answers
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
                status = await reader.readline()
        except OSError:
            return False
        return b" 200 " in status


class Fleet:
    """The processes of a test, or of several, on one database and one model."""

    def __init__(self, folder: Path, database_url: str, model_url: str | None) -> None:
        """Without a `model_url` it is the embedded model that answers."""
        self.database_url = database_url
        self.folder = folder
        self._processes: list[Process] = []
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("THREADLOOM_")}
        self._environment = inherited | {
            "THREADLOOM_DATA_DIR": str(folder),
            "THREADLOOM_DATABASE__URL": database_url,
            "THREADLOOM_AUTH__ADMIN_KEY": KEY,
            "THREADLOOM_RUNS__LEASE": "2s",
            **WITHOUT_SANDBOX,
        }
        if model_url is not None:
            self._environment["THREADLOOM_UPSTREAM__BASE_URL"] = model_url

    def serve(self, settings: Mapping[str, str] = NOTHING, *, with_worker: bool = True) -> Server:
        port = free_port()
        worker = "--worker" if with_worker else "--no-worker"
        server = Server(
            "serve",
            "--port",
            str(port),
            worker,
            folder=self.folder,
            name=f"serve-{port}",
            environment={**self._environment, **settings},
        )
        server.port = port
        self._processes.append(server)
        return server

    def worker(self, name: str, settings: Mapping[str, str] = NOTHING) -> Process:
        worker = Process(
            "worker",
            folder=self.folder,
            name=f"worker-{name}",
            environment={**self._environment, **settings},
        )
        self._processes.append(worker)
        return worker

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
