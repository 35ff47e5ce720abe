"""The compose file as its page tells to use it: in a folder and a project of the test's own, with images that were built here."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from dotenv import dotenv_values

from tests.support.engine import MIB
from tests.support.process import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compose.md"
BASE = "threadloom-base:ci"
POSTGRES = "threadloom-postgres:ci"
LABEL = "com.docker.compose.project"
SERVICES = ("database", "sandbox", "server", "worker")
OVERRIDE = "services:\n" + "".join(
    f"  {service}: {{healthcheck: {{interval: 5s, timeout: 60s}}}}\n" for service in SERVICES
)


@dataclass
class Deployment:
    """A folder with the compose file."""

    folder: Path
    project: str
    port: int

    @property
    def settings(self) -> dict[str, str | None]:
        return dotenv_values(self.folder / ".env")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def key(self) -> str:
        return self.settings["THREADLOOM_AUTH__ADMIN_KEY"] or ""

    @property
    def sandbox_image(self) -> str:
        """Of its own, so that it is missing at the start."""
        return f"threadloom-sandbox:{self.project}"

    def set(self, name: str, value: str) -> None:
        """From the next `up` on."""
        with (self.folder / ".env").open("a") as file:
            file.write(f"{name}={value}\n")

    def follow(self, section: str, number: int) -> str:
        """Run a shell block of the page; gives what it printed."""
        return self.run("bash", "-euo", "pipefail", "-c", blocks(section)[number])

    def compose(self, *arguments: str) -> str:
        return self.run("docker", "compose", *arguments)

    def asked(self, *command: str) -> Any:
        """What a command in a service's container says with --json, whatever its exit code is."""
        return json.loads(self.tried("docker", "compose", "exec", *command, "--json").stdout)

    def run(self, *command: str) -> str:
        done = self.tried(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}{self.told()}"
        return done.stdout

    def tried(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment(COMPOSE_PROJECT_NAME=self.project),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def told(self) -> str:
        """What the containers said last."""
        return self.tried("docker", "compose", "logs", "--tail", "20").stdout

    def container(self, service: str) -> dict[str, Any]:
        """As the engine describes it."""
        name = self.compose("ps", "--all", "--quiet", service).split()[0]
        return json.loads(self.run("docker", "inspect", name))[0]

    def left(self) -> Sequence[str]:
        """Containers, volumes and networks of the project."""
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        chosen = ("--quiet", "--filter", f"label={LABEL}={self.project}")
        return [line for kind in kinds for line in self.run("docker", *kind, *chosen).split()]


def blocks(section: str) -> list[str]:
    """The shell blocks below a heading of the page."""
    (text,) = re.findall(
        rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


@contextmanager
def deployment() -> Generator[Deployment]:
    """Nothing runs in it yet; whatever does is ended afterwards, and nothing may be left."""
    folder = Path(tempfile.mkdtemp(prefix="tl-compose-", dir="/tmp"))
    with create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    made = Deployment(folder, folder.name.lower().replace("_", "-"), port)
    shutil.copy(ROOT / "docker-compose.yml", folder)
    (folder / "docker-compose.override.yml").write_text(OVERRIDE)
    try:
        yield made
    finally:
        if (folder / ".env").exists():
            made.compose("down", "--volumes", "--timeout", "20")
            made.tried("docker", "image", "rm", made.sandbox_image)
        left = made.left()
        shutil.rmtree(folder)
    assert not left


def configure(deployment: Deployment) -> None:
    """What the page leaves to its reader: another port and smaller sandboxes than usual."""
    more = {
        "BASE": BASE,
        "POSTGRES_IMAGE": POSTGRES,
        "THREADLOOM_SERVER__PORT": str(deployment.port),
        "THREADLOOM_SERVER__POLL_AFTER": "50ms",
        "THREADLOOM_CODE_INTERPRETER__IMAGE": deployment.sandbox_image,
        "THREADLOOM_CODE_INTERPRETER__POOL": "0",
        "THREADLOOM_CODE_INTERPRETER__MEMORY": str(384 * MIB),
        "THREADLOOM_CODE_INTERPRETER__DISK": str(64 * MIB),
    }
    for name, value in more.items():
        deployment.set(name, value)


def need_images() -> None:
    """For a test's setup."""
    wanted = (["compose", "version"], ["image", "inspect", "threadloom", BASE, POSTGRES])
    for arguments in wanted:
        command = ["docker", *arguments]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            why = f"`{' '.join(command)}` fails: .ci/compose.sh and .ci/images.sh make what is needed."
            if os.environ.get("REQUIRE_DOCKER") == "1":
                pytest.fail(why, pytrace=False)
            pytest.skip(why)
