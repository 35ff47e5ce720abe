"""A network in which every address leads to one server that notices everybody, and a guarded client in it.

`python -m tests.support.canary` reads tries as JSON, makes them one after the other in a fresh namespace, and prints what came of each.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import httpx2

from tests.support.namespace import bring_up, run_inside
from threadloom.config.outbound import Outbound
from threadloom.outbound import AddressRefused, guarded_client, look_up, read_limited

PUBLIC = "93.184.215.14"
Names = Mapping[str, Sequence[Sequence[str]]]
"""What a name server says of each name: the first time, the second, and from then on the last."""


@dataclass(frozen=True)
class Try:
    """URLs to ask for, one after the other with one client."""

    urls: tuple[str, ...]
    names: Names = field(default_factory=dict[str, Sequence[Sequence[str]]])
    allow: tuple[str, ...] = ()
    redirects: int = 0


@dataclass(frozen=True)
class Seen:
    """A connection as the canary saw it: the address that it came to, and what was asked there."""

    address: str
    port: int
    host: str = ""
    tls_name: str | None = None
    cookie: str = ""


@dataclass(frozen=True)
class Told:
    """What came of a try: a status or an error for each URL."""

    answers: tuple[str, ...]
    sentences: tuple[str, ...]
    seen: tuple[Seen, ...]
    lookups: tuple[str, ...]


async def make(*tries: Try, certificate: Path | None = None) -> list[Told]:
    """Make tries in a namespace. With a `certificate` (and its key, in one file) port 443 answers too, and it is trusted."""
    said = json.dumps([asdict(one) for one in tries]).encode()
    arguments = (str(certificate),) if certificate else ()
    printed = await run_inside(sys.executable, "-m", "tests.support.canary", *arguments, said=said)
    return [
        Told(
            tuple(one["answers"]),
            tuple(one["sentences"]),
            tuple(Seen(**seen) for seen in one["seen"]),
            tuple(one["lookups"]),
        )
        for one in json.loads(printed)
    ]


class Canary:
    """Answers on all addresses, at ports 80, 8080 and perhaps 443; `/to?URL` redirects there."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._tls_name: str | None = None

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None) -> AsyncGenerator[None]:
        if tls:
            tls.sni_callback = self._note_name
        ports = ((80, None), (8080, None), *(((443, tls),) if tls else ()))
        servers = [
            await asyncio.start_server(self._serve, ("0.0.0.0", "::"), port, ssl=context)
            for port, context in ports
        ]
        yield
        for server in servers:
            server.close()

    def _note_name(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self._tls_name = name

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port, *_ = writer.get_extra_info("sockname")
        self.seen.append(Seen(address, port))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        name = self._tls_name if port == 443 else None
        self.seen[-1] = Seen(address, port, headers["host"], name, headers.get("cookie", ""))
        writer.write(redirect(path) if path.startswith("/to?") else answer())
        await writer.drain()
        writer.close()


def redirect(path: str) -> bytes:
    target = unquote(path.removeprefix("/to?"))
    return f"HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode()


def answer() -> bytes:
    head = "HTTP/1.1 200 OK\r\nconnection: close\r\nset-cookie: seen=1\r\ncontent-length: 4\r\n\r\n"
    return head.encode() + b"seen"


class NameServer:
    """A resolver that may change its mind."""

    def __init__(self, names: Names) -> None:
        self._left = {name: list(answers) for name, answers in names.items()}
        self.lookups: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        if host not in self._left:
            return await asyncio.to_thread(look_up, host, port)
        answers = self._left[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def attempt(canary: Canary, one: Try, tls: ssl.SSLContext) -> Told:
    canary.seen.clear()
    names = NameServer(one.names)
    answers: list[str] = []
    sentences: list[str] = []
    client = guarded_client(
        Outbound(allow=one.allow), timeout=2, redirects=one.redirects, resolve=names, tls=tls
    )
    async with client:
        for url in one.urls:
            try:
                async with client.stream("GET", url) as response:
                    await read_limited(response, 100)
                answers.append(str(response.status_code))
            except AddressRefused as refused:
                answers.append("refused")
                sentences.append(str(refused))
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                answers.append(type(error).__name__)
    # Whoever is on the way has arrived after this.
    await asyncio.sleep(0.02)
    return Told(tuple(answers), tuple(sentences), tuple(canary.seen), tuple(names.lookups))


async def main() -> None:
    bring_up()
    server, client = contexts(sys.argv[1]) if len(sys.argv) > 1 else UNENCRYPTED
    tries = [Try(**cast("dict[str, Any]", one)) for one in json.load(sys.stdin)]
    canary = Canary()
    async with canary.listening(server):
        told = [await attempt(canary, one, client) for one in tries]
    print(json.dumps([asdict(one) for one in told]))  # noqa: T201 (this is what the parent reads)


# An empty context: loading certificates takes longer than a try.
UNENCRYPTED = (None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def contexts(certificate: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=certificate)


if __name__ == "__main__":
    asyncio.run(main())
