"""Where code is run: the engine, the image, and whether a sandbox is one."""

import asyncio
import secrets
from collections.abc import Sequence

from threadloom.commands.doctor.findings import Finding, fitting, green, red, yellow
from threadloom.config import CodeInterpreter
from threadloom.errors import StartError
from threadloom.sandbox import building
from threadloom.sandbox.opening import open_sandbox
from threadloom.sandbox.session import (
    Finished,
    Logs,
    Sandbox,
    SandboxLost,
    SandboxUnavailable,
    Session,
)

SECONDS = 30.0
QUICK = 2.0
PROBE = """
import os, socket
try:
    cards = [name for _, name in socket.if_nameindex() if name != "lo"]
except OSError:
    cards = []
print(1 + 1, os.getuid(), len(cards))
"""
ENGINE = fitting(
    "Start Docker and let this user use its socket, set THREADLOOM_CODE_INTERPRETER__DOCKER_HOST, "
    "or turn the tool off with THREADLOOM_CODE_INTERPRETER__RUNTIME=none.",
    "Start Docker, let DOCKER_GID in .env be the group of its socket (`stat -c %g /var/run/docker.sock`), and run `docker compose up -d`.",
)
BUILD = fitting(
    "Run `threadloom sandbox build`.",
    "Run `docker compose restart sandbox`, which builds it; `docker compose logs -f sandbox` shows how far it is.",
)
LOOK = "Run `threadloom sandbox check`; docs/code-interpreter.md tells what a sandbox needs."
RUNNER = fitting(
    "Start `threadloom sandbox serve`, and check THREADLOOM_CODE_INTERPRETER__RUNNER__URL and __TOKEN on both sides.",
    "Run `docker compose up -d sandbox`; `docker compose logs sandbox` says why it is not there, or that it still builds its image.",
)
ELSEWHERE = "only the API is served on this host; code is run where workers are: ask `threadloom doctor` there"


async def check_sandbox(
    settings: CodeInterpreter, *, held_here: bool = False, used_here: bool = True
) -> Sequence[Finding]:
    """`held_here`: the runner is a process of this host. `used_here`: nothing tells that workers are on other hosts only."""
    if settings.runtime == "none":
        return [green("sandbox", "turned off: code_interpreter.runtime is `none`")]
    if not used_here:
        return [green("sandbox", ELSEWHERE)]
    findings: list[Finding] = []
    if settings.runtime == "docker" and (settings.runner.url is None or held_here):
        findings.append(await asyncio.to_thread(check_engine, settings))
        if findings[-1].colour == "red":
            return findings
    sandbox = open_sandbox(settings.model_copy(update={"pool": 0}))
    try:
        findings.append(await check_run(sandbox, RUNNER if settings.runner.url else LOOK))
    finally:
        await sandbox.close()
    if settings.runtime == "bubblewrap":
        mend = "Set THREADLOOM_CODE_INTERPRETER__RUNTIME=docker where strangers chat."
        findings.append(yellow("sandbox", "bubblewrap is for development only", mend))
    return findings


def check_engine(settings: CodeInterpreter) -> Finding:
    try:
        seen = building.look(settings)
    except StartError as error:
        return red("sandbox engine", str(error), ENGINE)
    if seen.image is None:
        return red("sandbox engine", f"there is no image {settings.image}", BUILD)
    if not seen.current:
        return red("sandbox engine", f"the image {settings.image} is another version's", BUILD)
    says = f"{seen.version} has the image {settings.image}; its runtime is {seen.runtime}"
    return green("sandbox engine", says)


async def check_run(sandbox: Sandbox, mend: str) -> Finding:
    """Run code that says who it is and what it can reach."""
    key = f"doctor {secrets.token_hex(8)}"
    loop = asyncio.get_running_loop()
    try:
        async with sandbox.session(key) as session:
            since = loop.time()
            printed = await run(session)
            took = loop.time() - since
        await sandbox.end(key)
    except (SandboxUnavailable, SandboxLost) as error:
        return red("sandbox", str(error), mend)
    answer = printed.split()
    if answer[:1] != ["2"]:
        return red("sandbox", f"code does not run: {printed.strip()[:200]}", mend)
    if answer[1:] == ["0", "0"] or answer[2:] != ["0"]:
        says = f"code runs as user {answer[1]} with {answer[2]} network cards: it is not shut in"
        return red("sandbox", says, mend)
    says = f"code ran in {took:.2f} s, as user {answer[1]} without a network"
    return (
        green("sandbox", says)
        if took < QUICK
        else yellow("sandbox", says, "Give its machine more processors.")
    )


async def run(session: Session) -> str:
    """What it prints, or how it ended."""
    printed = ""
    async for output in session.execute(PROBE, seconds=SECONDS):
        if isinstance(output, Logs):
            printed += output.text
        elif isinstance(output, Finished) and output.ending != "ok":
            return f"it ended with {output.ending}: {printed}"
    return printed
