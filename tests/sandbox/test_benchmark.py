"""The benchmark of sandboxes runs. What it measures is not judged here, and the bare kernel beside them is left out."""

import asyncio
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.docker
@pytest.mark.timeout(300)
async def test_it_reports_every_figure() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.sandbox", "--quick", "--without-bare"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    for name in (
        "first `1+1`, cold",
        "first `1+1`, from the pool",
        "later `1+1`",
        "first plot with pandas",
        "`1+1` after its process was killed",
        "50 MiB in",
        "50 MiB out",
        "memory, idle",
        "memory, after a plot",
        "at once in 4 GiB",
    ):
        assert f"sandbox, {name}" in output.decode()
