"""`threadloom sandbox`: build the image, check that all is there, list and end sandboxes."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import typer

from threadloom.clock import SystemClock
from threadloom.config import CodeInterpreter, Settings
from threadloom.errors import StartError
from threadloom.sandbox import building
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.engine import Container
from threadloom.sandbox.opening import open_sandbox
from threadloom.sandbox.session import (
    Finished,
    Logs,
    Sandbox,
    SandboxLost,
    SandboxUnavailable,
    Session,
)

CHECK_SECONDS = 60.0
SHOWN = ("numpy", "pandas", "scipy", "sklearn", "matplotlib", "openpyxl", "PIL", "IPython")
VERSIONS = f"""
import importlib, platform
print("Python", platform.python_version(), end="")
for name in {SHOWN!r}:
    print(",", name, importlib.import_module(name).__version__, end="")
"""
SHORT = 12
"""Characters that tell a container from all others."""


def build(settings: Settings, *, base: str | None, network: str | None, cache: bool) -> None:
    """Raises StartError."""
    image = settings.code_interpreter.image
    for line in building.build(settings.code_interpreter, base=base, network=network, cache=cache):
        typer.echo(line)
    seen = building.look(settings.code_interpreter)
    typer.echo(f"Built the image {image} ({seen.image}).")


def build_missing(settings: Settings, *, base: str | None) -> None:
    """Build the image, on `base`, if there is none of this version. Raises StartError."""
    if not building.look(settings.code_interpreter).current:
        build(settings, base=base, network=None, cache=True)


async def check(settings: Settings) -> None:
    """A line for each thing that sandboxes need; raises StartError with what is missing."""
    code = settings.code_interpreter
    if code.runtime == "none":
        raise StartError("The tool is turned off: code_interpreter.runtime is `none`.")
    if code.runner.url:
        typer.echo(f"runner: {code.runner.url}")
    elif code.runtime == "docker":
        check_engine(code)
    sandbox = open_sandbox(code.model_copy(update={"pool": 0}))
    try:
        await check_code(sandbox)
    finally:
        await sandbox.close()


def check_engine(code: CodeInterpreter) -> None:
    seen = building.look(code)
    typer.echo(f"engine: {seen.version}, runtime {seen.runtime}")
    if seen.image is None:
        raise StartError(f"There is no image {code.image}: run `threadloom sandbox build`.")
    if not seen.current:
        raise StartError(
            f"The image {code.image} is another version's: run `threadloom sandbox build`."
        )
    typer.echo(f"image: {code.image} ({seen.image})")


async def check_code(sandbox: Sandbox) -> None:
    """Run some. Raises StartError."""
    key = f"check {secrets.token_hex(8)}"
    loop = asyncio.get_running_loop()
    try:
        since = loop.time()
        async with sandbox.session(key) as session:
            answer = await run(session, "1+1")
            typer.echo(f"sandbox: 1+1 is {answer} after {loop.time() - since:.2f} s")
            typer.echo(f"packages: {await run(session, VERSIONS)}")
        await sandbox.end(key)
    except (SandboxUnavailable, SandboxLost) as error:
        raise StartError(str(error)) from None


async def run(session: Session, code: str) -> str:
    """What it prints. Raises StartError if it does not end well."""
    printed = ""
    async for output in session.execute(code, seconds=CHECK_SECONDS):
        if isinstance(output, Logs):
            printed += output.text
        elif isinstance(output, Finished) and output.ending != "ok":
            raise StartError(f"Code in the sandbox ended with {output.ending}: {printed.strip()}")
    return printed.strip()


@dataclass(frozen=True)
class Seen:
    """A sandbox; its age in seconds, its memory in bytes while it works."""

    id: str
    started_by: str
    state: str
    age: float
    memory: int | None


async def show(settings: Settings) -> Sequence[Seen]:
    """Raises StartError."""
    code = settings.code_interpreter
    async with engine(code) as docker:
        containers = await listed(docker)
    running = [container.id for container in containers if container.state == "running"]
    used = await asyncio.to_thread(building.memory, code, running)
    now = SystemClock().now()
    return [
        Seen(one.id[:SHORT], one.started_by, one.state, now - one.created, used.get(one.id))
        for one in containers
    ]


async def kill(settings: Settings, *, container: str | None) -> int:
    """End one sandbox, or all; gives how many. Raises StartError."""
    async with engine(settings.code_interpreter) as docker:
        chosen = [
            each.id
            for each in await listed(docker)
            if container is None or (container and each.id.startswith(container))
        ]
        if container is not None and len(chosen) != 1:
            raise StartError(
                f"There are {len(chosen)} sandboxes whose id begins with {container!r}."
            )
        await asyncio.gather(*map(docker.remove, chosen))
    return len(chosen)


async def listed(docker: Docker) -> Sequence[Container]:
    try:
        return await docker.containers()
    except SandboxUnavailable as error:
        raise StartError(str(error)) from None


@asynccontextmanager
async def engine(code: CodeInterpreter) -> AsyncGenerator[Docker]:
    docker = Docker(code)
    try:
        yield docker
    finally:
        await docker.close()
