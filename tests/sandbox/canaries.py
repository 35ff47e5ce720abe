"""What code in a sandbox must not touch: a file, a port, a process and a container of the host. They notice."""

import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from tests.sandbox.driving import IMAGE

NAME = "threadloom-canary"
COMPOSE = "com.docker.compose.project"
TEXT = "nobody reads or writes this"


@dataclass(frozen=True)
class Canaries:
    """`addresses` are the host's, and the container's."""

    file: Path
    modified: int
    listener: socket.socket
    datagrams: socket.socket
    process: subprocess.Popen[bytes]
    container: Any
    addresses: list[str]

    def described(self) -> dict[str, object]:
        """All that an attacker could wish to know."""
        return {
            "file": str(self.file),
            "port": self.listener.getsockname()[1],
            "pid": self.process.pid,
            "addresses": self.addresses,
            "container": self.container.id,
        }

    def volumes(self) -> set[str]:
        """Of the engine, but for those of a compose file that another test may have brought up."""
        found = self.container.client.volumes.list()
        return {one.name for one in found if COMPOSE not in (one.attrs["Labels"] or {})}

    def check(self) -> None:
        assert self.file.read_text() == TEXT
        assert self.file.stat().st_mtime_ns == self.modified
        assert not arrived(self.listener)
        assert not arrived(self.datagrams)
        assert self.process.poll() is None
        before = self.container.attrs["State"]
        self.container.reload()
        assert self.container.attrs["State"] == before


@contextmanager
def canaries(folder: Path) -> Generator[Canaries]:
    file = folder / NAME
    file.write_text(TEXT)
    engine: Any = docker.from_env()
    sleeping = [sys.executable, "-c", "import time; time.sleep(10_000)", NAME]
    container = engine.containers.run(
        IMAGE, entrypoint=["sleep", "10000"], detach=True, auto_remove=True, name=None
    )
    process = subprocess.Popen(sleeping)
    with socket.create_server(("", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(listener.getsockname())
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        reachable = [network[kind] for network in networks for kind in ("IPAddress", "Gateway")]
        try:
            yield Canaries(
                file=file,
                modified=file.stat().st_mtime_ns,
                listener=listener,
                datagrams=udp,
                process=process,
                container=container,
                addresses=[own_address(), *filter(None, reachable)],
            )
        finally:
            process.kill()
            process.wait()
            container.remove(force=True)
            engine.close()


def arrived(listener: socket.socket) -> bool:
    """Whether anything came to it."""
    listener.setblocking(False)
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def own_address() -> str:
    """One that others would reach this machine at."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
