"""The benchmark of searches runs. What it measures is not judged here."""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def test_it_reports_every_figure() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.search", "--sizes", "500", "--rounds", "5"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    for name in (
        "bare FAISS flat, p50",
        "nearest, CPU",
        "nearest in 1 % of the files, p50",
        "matching four words, p50",
        "from rows, first search, wall",
        "after a restart, memory",
    ):
        assert f"500 chunks, {name}" in output.decode()
