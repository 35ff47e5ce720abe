"""The benchmarks run from their one command and report every figure. What they measure is not judged here."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[1]
EVERY_FIGURE = {
    "first token, 1 client, overhead p50",
    "unpaced 2,000 tokens, 32 clients, CPU a token",
    "32 streams x 50 tokens/s, share of direct",
    "32 streams x 50 tokens/s, other requests p95",
    "run of 20 tokens, 8 clients, CPU",
    "GET run, 32 clients, CPU",
    "GET run, 32 clients, CPU of the minimal app",
    "POST message, 1 client, answers",
    "list 20, 8 clients, CPU",
    "thread of 10 messages, page in the middle, CPU",
    "thread of 100 messages, run that is shown 10, CPU",
    "memory after load",
    "memory at rest",
    "cold start, empty data directory, CPU",
    "cold start, existing data directory, wall",
}


async def run_benchmarks(*options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks", "--quick", *options, cwd=ROOT
    )
    assert await process.wait() == 0


async def test_one_command_reports_every_figure(tmp_path: Path) -> None:
    await run_benchmarks("--json", str(tmp_path / "report.json"))
    report: dict[str, Any] = orjson.loads((tmp_path / "report.json").read_bytes())
    assert set(report) == {"at", "machine", "database", "quick", "figures"}
    assert {tuple(figure) for figure in report["figures"]} == {
        ("name", "value", "unit", "goal", "met")
    }
    assert {figure["name"] for figure in report["figures"]} >= EVERY_FIGURE


async def test_a_separate_worker_on_postgresql_is_measured_too(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    await run_benchmarks("--database", "postgresql", "--only", "runs", "--json", str(path))
    assert orjson.loads(path.read_bytes())["database"] == "postgresql"


async def test_a_flood_is_measured_in_one_run(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.overload", "--quick", "--json", str(path), cwd=ROOT
    )
    assert await process.wait() == 0
    figures = {one["name"]: one["value"] for one in orjson.loads(path.read_bytes())["figures"]}
    assert figures["runs begun in the flood"] > 0
    assert figures["runs lost"] == 0
    assert figures["flood, refusals without retry-after"] == 0
