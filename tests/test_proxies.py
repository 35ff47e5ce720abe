"""The proxies of docs/proxies.md, as they are configured there: streams are not held back."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import socket
from subprocess import Popen

import httpx2
import pytest

from tests.api.wire import make_assistant, make_file
from tests.faults.processes import free_port, until
from tests.support.server import CERTIFICATES, running_server
from threadloom.testing import ScriptedModel, ScriptedModels

PAGE = (Path(__file__).parents[1] / "docs" / "proxies.md").read_text()
KINDS = ("nginx", "nginx by itself", "caddy")
LARGE = b"0123456789abcdef" * 65_536 * 20
NGINX = """\
daemon off;
master_process off;
pid {place}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {server}
}}
"""
CADDY = """\
{{
	admin off
	auto_https off
}}
{server}
"""


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough: it is the proxy that is tried."""
    return sqlite_url


def documented(kind: str) -> str:
    """The lines of the page."""
    found = re.search(f"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def command_of(kind: str, place: Path, *, port: int, server: int) -> list[str]:
    """What starts the proxy; without TLS, because nobody has that certificate."""
    name = kind.split(maxsplit=1)[0]
    lines = documented(name).replace("127.0.0.1:8484", f"127.0.0.1:{server}")
    file = place / "config"
    if name == "caddy":
        site = lines.replace("assistants.example.com", f"http://127.0.0.1:{port}")
        file.write_text(CADDY.format(server=site))
        return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
    site = re.sub(r"ssl_certificate.*", "", lines).replace("443 ssl", f"127.0.0.1:{port}")
    if kind != name:
        site = re.sub(r"proxy_(http_version|buffering) .*;", "", site)
    file.write_text(NGINX.format(place=place, server=site))
    return [name, "-p", str(place), "-c", str(file), "-e", str(place / "log")]


@asynccontextmanager
async def proxied(kind: str, place: Path, server: int) -> AsyncGenerator[str]:
    """A proxy before a server's port; gives its address."""
    port = free_port()
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(place))
    # Debian's nginx is where the paths of people do not lead.
    variables = homes | {"PATH": os.environ["PATH"] + ":/usr/sbin"}
    process = started(command_of(kind, place, port=port, server=server), variables, place)
    try:
        await until(lambda: listens(port), f"{kind}: {(place / 'output').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def started(command: list[str], variables: dict[str, str], place: Path) -> Popen[bytes]:
    with (place / "output").open("wb") as output:
        return Popen(command, env=variables, stdout=output, stderr=output)


def listens(port: int) -> bool:
    with socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def noted(answer: httpx2.Response, word: str, heard: asyncio.Event) -> AsyncGenerator[str]:
    """The lines of a stream; `heard` is set when the word arrives, and the model goes on only then."""
    async for line in answer.aiter_lines():
        if word in line:
            heard.set()
        if line:
            yield line


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_holds_nothing_back(database_url: str, tmp_path: Path, kind: str) -> None:
    model, heard = ScriptedModel(), asyncio.Event()
    model.plays("It was a dark ", heard, "and stormy night.")
    async with (
        running_server(database_url, ScriptedModels(model)) as server,
        proxied(kind, tmp_path, server.port) as address,
        httpx2.AsyncClient(
            base_url=f"{address}/v1", headers={"api-key": server.key}, verify=CERTIFICATES
        ) as client,
    ):
        assistant = await make_assistant(client, instructions="Be brief.")
        body = {"assistant_id": assistant["id"], "stream": True}
        async with asyncio.timeout(20), client.stream("POST", "/threads/runs", json=body) as answer:
            lines = [line async for line in noted(answer, "dark", heard)]
        assert lines[-1] == "data: [DONE]"
        file = await make_file(client, LARGE)
        assert (await client.get(f"/files/{file['id']}/content")).content == LARGE
        for path in ("/healthz", "/metrics", "/version", "/docs", "/v2"):
            assert (await client.get(f"{address}{path}")).status_code == 404
