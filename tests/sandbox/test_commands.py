"""`threadloom sandbox`, run as people run it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.sandbox.test_conformance import ran
from tests.support.engine import containers, remaining, sessions, small
from tests.support.process import COMMAND, environment
from tests.support.runner import folder, started
from threadloom.sandbox.session import SandboxLost

__all__ = ["folder"]

SETTING = "THREADLOOM_CODE_INTERPRETER__"
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
docker = pytest.mark.docker
# Processes and sandboxes take their time on a busy machine.
pytestmark = pytest.mark.timeout(180)


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "sandbox", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def refused(folder: Path, *arguments: str, **variables: str) -> str:
    """A sentence, not a traceback."""
    ended = run(folder, *arguments, **variables)
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr.strip()


@pytest.mark.parametrize(
    "command", [["build"], ["check"], ["ps"], ["kill", "--all"], ["serve", "--build"]]
)
def test_without_an_engine_a_command_says_so(folder: Path, command: list[str]) -> None:
    assert "engine does not answer" in refused(folder, *command, **NO_ENGINE)


def test_a_tool_that_is_turned_off_is_no_fault_of_the_engine(folder: Path) -> None:
    off = {SETTING + "RUNTIME": "none"}
    assert "turned off" in refused(folder, "check", **off)
    url = {SETTING + "RUNNER__URL": f"unix://{folder}/sandbox.sock"}
    assert "nothing to hold" in refused(folder, "serve", **off, **url)


def test_a_runner_needs_an_address(folder: Path) -> None:
    assert refused(folder, "serve").startswith("Set code_interpreter.runner.url")


@pytest.mark.parametrize("arguments", [[], ["abc", "--all"], [""]])
def test_kill_needs_an_id_or_all(folder: Path, arguments: list[str]) -> None:
    ended = run(folder, "kill", *arguments)
    assert ended.returncode == 2
    assert "Give an id, or --all" in ended.stderr


def test_a_runner_that_is_not_there_is_named_by_check(folder: Path) -> None:
    url = f"unix://{folder}/sandbox.sock"
    said = refused(folder, "check", **{SETTING + "RUNNER__URL": url})
    assert said.startswith(f"The sandbox runner at {url} does not answer")


@docker
def test_check_names_an_image_that_is_missing(folder: Path) -> None:
    missing = {SETTING + "IMAGE": "threadloom-none"}
    said = refused(folder, "check", **missing)
    assert said == "There is no image threadloom-none: run `threadloom sandbox build`."


@docker
def test_check_runs_code_and_names_the_packages(folder: Path) -> None:
    ended = run(folder, "check")
    assert ended.returncode == 0, ended
    engine, image, sandbox, packages = ended.stdout.splitlines()
    assert engine.startswith("engine: ")
    assert image.startswith("image: threadloom-sandbox (")
    assert sandbox.startswith("sandbox: 1+1 is 2 after ")
    assert packages.startswith("packages: Python 3.")
    assert ", pandas " in packages


@docker
async def test_check_asks_the_runner_if_there_is_one(folder: Path) -> None:
    url = f"unix://{folder}/sandbox.sock"
    with started(folder, url) as runner:
        ended = run(folder, "check", **{SETTING + "RUNNER__URL": url}, **NO_ENGINE)
        assert ended.stdout.splitlines()[0] == f"runner: {url}"
        assert ended.returncode == 0, ended
        assert not await remaining(small(), runner.name)


@docker
async def test_a_sandbox_is_listed_and_ended(folder: Path) -> None:
    async with sessions() as sandbox, sandbox.session("thread_a") as session:
        await ran(session, "x = 1")
        (container,) = await containers(small())
        short = container.id[:12]
        listed = run(folder, "ps", COLUMNS="200").stdout
        (line,) = [line for line in listed.splitlines() if short in line]
        assert container.started_by in line
        assert "running" in line
        assert "MiB" in line
        seen = {one["id"]: one for one in json.loads(run(folder, "ps", "--json").stdout)}
        assert seen[short]["state"] == "running"
        assert seen[short]["memory"] > 0
        assert run(folder, "kill", short).stdout == "Ended 1.\n"
        with pytest.raises(SandboxLost):
            await ran(session, "x")
    assert "There are 0 sandboxes whose id begins with" in refused(folder, "kill", short)
