"""Looks at processes from outside."""

import asyncio
import os
import select
from pathlib import Path


def children() -> set[int]:
    """The processes that this one has started and that have not ended."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for listed in lists for pid in listed.read_text().split()}


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def ended(pid: int) -> None:
    """Waits for the end of any process, for ten seconds at most."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        found, _, _ = await asyncio.to_thread(select.select, [watched], [], [], 10)
        assert found, f"{pid} goes on"
    finally:
        os.close(watched)


def told(pid: int, name: str) -> str:
    """What the kernel says of a process."""
    return Path(f"/proc/{pid}/{name}").read_text()
