"""`threadloom serve`: who counts as this machine, what a failed start leaves, and which refusals are counted."""

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from socket import create_server
from typing import Any

import httpx2
import pytest

from tests.support.process import COMMAND, WITHOUT_SANDBOX, environment
from tests.support.scenario import whole_server
from tests.test_telemetry import risen, samples, scraped
from threadloom.app import create_app
from threadloom.commands.serve import Server


async def test_nobody_becomes_this_machine_by_a_header(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    async with whole_server(sqlite_url) as running:
        server = Server(create_app(running.context), running.context, on_start=print, on_stop=print)
        server.config.load()
        app: Any = vars(server.config)["loaded_app"]  # which uvicorn does not type
        transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 40_000))
        pretending = {"X-Forwarded-For": "127.0.0.1"}
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://threadloom.test", headers=pretending
        ) as http:
            for path in ("/metrics", "/version", "/docs"):
                assert (await http.get(path)).status_code == 401, path


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_whom_a_proxy_of_this_machine_asks_for_is_not_this_machine(
    sqlite_url: str, header: str
) -> None:
    async with whole_server(sqlite_url) as running, httpx2.AsyncClient() as http:
        address = f"http://127.0.0.1:{running.port}/version"
        assert (await http.get(address)).status_code == 200
        assert (await http.get(address, headers={header: "203.0.113.9"})).status_code == 401


def test_a_taken_port_for_metrics_does_not_use_up_the_first_key(tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        variables = environment(
            THREADLOOM_TELEMETRY__PORT=str(taken.getsockname()[1]),
            THREADLOOM_SERVER__PORT="0",
            **WITHOUT_SANDBOX,
        )
        ended = subprocess.run(
            [COMMAND, "serve"],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert "for metrics" in ended.stderr
    keys = subprocess.check_output([COMMAND, "keys", "list", "--json"], cwd=tmp_path, env=variables)
    assert json.loads(keys) == []


async def test_connections_beyond_the_bound_are_counted_as_refused(sqlite_url: str) -> None:
    async with (
        whole_server(sqlite_url, {"server": {"max_connections": 4}}) as running,
        AsyncExitStack() as stack,
    ):
        running.check.expected_statuses = {503}
        before = samples(await scraped(running))
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            stack.callback(writer.close)
        async with running.http() as http:
            assert (await http.get("/assistants")).status_code == 503
        after = samples(await scraped(running))
    assert risen(before, after, "threadloom_http_refused_total") == {"": 1}
