"""`threadloom sandbox serve`, and what it tells Prometheus."""

import asyncio
import re
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx2
import pytest

from tests.support.process import COMMAND, environment
from threadloom.config import CodeInterpreter
from threadloom.sandbox.remote import RemoteSandbox
from threadloom.sandbox.session import SandboxUnavailable

METRICS = re.compile(r"Metrics are at (http://127\.0\.0\.1:\d+)/metrics\n")


async def test_a_sandbox_runner_tells_prometheus_of_its_sandboxes() -> None:
    with tempfile.TemporaryDirectory(prefix="tl-", dir="/tmp") as folder:
        url = f"unix://{folder}/sandbox.sock"
        variables = environment(
            DOCKER_HOST="unix:///nowhere/docker.sock",
            THREADLOOM_CODE_INTERPRETER__RUNNER__URL=url,
            THREADLOOM_TELEMETRY__PORT="0",
        )
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "sandbox", "serve"), cwd=Path(folder), env=variables, stderr=PIPE
        )
        assert process.stderr
        try:
            announced = METRICS.fullmatch((await process.stderr.readline()).decode())
            assert announced
            assert b"There are no sandboxes yet" in await process.stderr.readline()
            sandbox = RemoteSandbox(CodeInterpreter.model_validate({"runner": {"url": url}}))
            with pytest.raises(SandboxUnavailable):
                async with sandbox.session("thread_a"):
                    pass
            async with httpx2.AsyncClient(base_url=announced[1], timeout=30) as http:
                told = (await http.get("/metrics")).text
                assert (await http.get("/")).status_code == 404
        finally:
            process.terminate()
            await process.wait()
    assert 'threadloom_sandbox_starts_total{outcome="failed"}' in told
    assert "threadloom_queue_due" not in told
    assert process.returncode == 0
