"""What a sandbox costs, beside a bare ipykernel on the same machine in the same run.

    python -m benchmarks.sandbox [--quick] [--without-bare]

Needs the engine and the sandbox's image. The bare kernel gets an environment of its own, with the image's versions of
IPython, numpy, pandas and matplotlib, which is downloaded. Figures are medians of rounds in which the two take turns.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import docker
import uvloop

from benchmarks.bare_kernel import PLOT, memory
from benchmarks.figures import Figure, table
from threadloom.config import CodeInterpreter
from threadloom.sandbox import building
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.engine import started_by
from threadloom.sandbox.pool import Launched
from threadloom.sandbox.session import Finished, Logs, Picture, SandboxFile, Session
from threadloom.sandbox.sessions import Sessions

MIB = 2**20
MS = 1e3
ROOM = 4096
FILE = SandboxFile("data.bin", 50 * MIB)
BARE = ("ipykernel", "jupyter_client", "ipython", "numpy", "pandas", "matplotlib")
Rounds = defaultdict[str, list[float]]
NAMES = {
    "cold": ("first `1+1`, cold", "ms"),
    "pool": ("first `1+1`, from the pool", "ms"),
    "later": ("later `1+1`", "ms"),
    "plot": ("first plot with pandas", "ms"),
    "back": ("`1+1` after its process was killed", "ms"),
    "put": ("50 MiB in", "ms"),
    "get": ("50 MiB out", "ms"),
    "idle": ("memory, idle", "MiB"),
    "after plot": ("memory, after a plot", "MiB"),
}


@dataclass(frozen=True)
class Sizes:
    """How often each thing is done."""

    rounds: int = 7
    calls: int = 100


class Watched(Docker):
    """Tells how many sandboxes were started."""

    def __init__(self, settings: CodeInterpreter) -> None:
        super().__init__(settings)
        self.started = asyncio.Semaphore(0)

    async def launch(self) -> Launched:
        launched = await super().launch()
        self.started.release()
        return launched


@asynccontextmanager
async def opened(pool: int = 0) -> AsyncGenerator[tuple[Sessions, Watched]]:
    settings = CodeInterpreter(pool=pool)
    launcher = Watched(settings)
    sandbox = Sessions(settings, launcher)
    try:
        if problem := await sandbox.start():
            sys.exit(problem)
        yield sandbox, launcher
    finally:
        await sandbox.close()


async def run(session: Session, code: str) -> list[object]:
    outputs: list[object] = [output async for output in session.execute(code, seconds=60)]
    assert isinstance(outputs.pop(), Finished)
    return outputs


async def add(sandbox: Sessions, key: str) -> None:
    """A whole call: the session taken, one sum, the session given back."""
    async with sandbox.session(key) as session:
        assert await run(session, "1+1") == [Logs("2\n")]


async def plot(session: Session) -> None:
    assert any(isinstance(output, Picture) for output in await run(session, PLOT))


async def back(session: Session) -> None:
    """From the death of the process to the next result."""
    await run(session, "import os; os.kill(os.getpid(), 9)")
    assert await run(session, "1+1") == [Logs("2\n")]


async def content() -> AsyncIterator[bytes]:
    piece = bytes(MIB)
    for _ in range(FILE.size // MIB):
        yield piece


async def fetch(session: Session) -> None:
    assert sum([len(piece) async for piece in session.get(FILE)]) == FILE.size


async def milliseconds(work: Awaitable[object]) -> float:
    before = time.perf_counter()
    await work
    return (time.perf_counter() - before) * MS


async def from_nothing(rounds: Rounds, calls: int) -> None:
    """A sandbox that has to be started, and all that is done in one."""
    async with opened() as (sandbox, launcher):
        rounds["cold"].append(await milliseconds(add(sandbox, "thread")))
        rounds["later"] += [await milliseconds(add(sandbox, "thread")) for _ in range(calls)]
        rounds["idle"].append(await used(launcher))
        async with sandbox.session("thread") as session:
            rounds["plot"].append(await milliseconds(plot(session)))
            rounds["after plot"].append(await used(launcher))
            rounds["put"].append(await milliseconds(session.put(FILE.path, FILE.size, content())))
            rounds["get"].append(await milliseconds(fetch(session)))
            rounds["back"].append(await milliseconds(back(session)))


async def from_the_pool(rounds: Rounds, number: int) -> None:
    """The next spare is being started while the one before is first used, as it would be."""
    async with opened(pool=1) as (sandbox, launcher):
        for key in range(number):
            await launcher.started.acquire()
            await asyncio.sleep(0.5)
            rounds["pool"].append(await milliseconds(add(sandbox, f"thread {key}")))


async def used(launcher: Watched) -> float:
    """MiB of this run's one container, and of the engine's process that watches it where that can be seen."""
    (container,) = [each for each in await launcher.containers() if each.started_by == started_by()]
    api: Any = docker.from_env(version="auto").api
    try:
        stats = await asyncio.to_thread(api.stats, container.id, stream=False, one_shot=True)
    finally:
        api.close()
    counted = stats["memory_stats"]
    files = counted["stats"].get("total_inactive_file", counted["stats"].get("inactive_file", 0))
    return (counted["usage"] - files) / MIB + watcher(container.id)


def watcher(container: str) -> float:
    """MiB."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if container.encode() in (process / "cmdline").read_bytes():
                return memory(int(process.name))
    return 0.0


def bare_python(folder: Path) -> Path:
    """Of an environment with a Jupyter kernel in the versions that the image has."""
    uv, python = str(Path(sys.executable).with_name("uv")), folder / "bin" / "python"
    known = str(building.RECIPE / "requirements.txt")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    install = ["pip", "install", "-q", "--compile-bytecode", "--python", str(python)]
    subprocess.run([uv, *install, "--constraint", known, *BARE], check=True)
    return python


async def bare(python: Path, rounds: Rounds, calls: int) -> None:
    script = Path(__file__).with_name("bare_kernel.py")
    process = await asyncio.create_subprocess_exec(
        *(str(python), str(script), str(calls)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    for name, values in json.loads(output).items():
        rounds[name] += values


async def measured(sizes: Sizes, *, beside: bool) -> list[Figure]:
    ours, others = Rounds(list), Rounds(list)
    with tempfile.TemporaryDirectory() as folder:
        python = bare_python(Path(folder)) if beside else None
        for _ in range(sizes.rounds):
            await from_nothing(ours, sizes.calls)
            if python:
                await bare(python, others, sizes.calls)
    await from_the_pool(ours, sizes.rounds)
    return [*figures_of("sandbox", ours), *figures_of("bare ipykernel", others)]


def figures_of(whose: str, rounds: Rounds) -> list[Figure]:
    figures = [
        Figure(f"{whose}, {name}", median(rounds[key]), unit)
        for key, (name, unit) in NAMES.items()
        if rounds[key]
    ]
    if rounds["after plot"]:
        number = ROOM / median(rounds["after plot"])
        figures.append(
            Figure(f"{whose}, at once in 4 GiB, by their memory after a plot", number, "")
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: does it work at all?")
    parser.add_argument("--without-bare", action="store_true", help="download nothing")
    options = parser.parse_args()
    sizes = Sizes(rounds=1, calls=3) if options.quick else Sizes()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(table(runner.run(measured(sizes, beside=not options.without_bare))))


if __name__ == "__main__":
    main()
