"""Commands in a network of their own, without a way out: a namespace that only has `lo`."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence

# Without root there has to be a user namespace, in which one is root.
PREFIX = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))
EVERY_ADDRESS_IS_OURS = (
    "link set lo up",
    "route add local 0.0.0.0/0 dev lo",
    "-6 route add local ::/0 dev lo",
)


def bring_up(commands: Sequence[str] = EVERY_ADDRESS_IS_OURS) -> None:
    """Inside: the interface, and routes."""
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


async def run_inside(
    *command: str,
    said: bytes = b"",
    environment: Mapping[str, str] | None = None,
    seconds: float = 40.0,
) -> bytes:
    """What a command prints that runs in a network of its own."""
    process = await asyncio.create_subprocess_exec(
        *PREFIX, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        async with asyncio.timeout(seconds):
            printed, _ = await process.communicate(said)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0
    return printed
