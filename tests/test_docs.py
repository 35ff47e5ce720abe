"""What the documents say is true: settings, links, commands."""

import os
import re
import runpy
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_configuration_page_lists_every_setting() -> None:
    written = runpy.run_path(str(ROOT / "tools" / "configuration.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text() == written


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|sandbox:|#)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def shell_blocks() -> list[tuple[str, str]]:
    """Every shell block of every page, with the page's name."""
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    ]


# These run the suite, build an image or measure for minutes: the suite shows that they are there and what they would run.
LONG = (
    "make test",
    "make faults",
    "make check",
    "make bench",
    "make sandbox",
    "python -m benchmarks",
)
SANDBOX = "threadloom sandbox"
# A machine that also builds images and runs the other tests starts a sandbox slowly.
PATIENT = (pytest.mark.docker, pytest.mark.timeout(150))
SHORT = [block for block in shell_blocks() if not block[1].startswith(("make serve", *LONG))]


@pytest.fixture(scope="module")
def shell_environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """A server started with the README's first command, and what a reader's shell would know of it."""
    data = tmp_path_factory.mktemp("readme")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "THREADLOOM_DATA_DIR": str(data),
        "THREADLOOM_SERVER__PORT": "0",
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none",
    }
    command = next(block for _, block in shell_blocks() if block.startswith("make serve"))
    process = subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        text = ""
        while "listens on" not in text:
            line = process.stderr.readline()
            assert line, f"the server stopped: {text}"
            text += line
        address = re.search(r"listens on (http\S+)", text)
        key = re.search(r"sk-\S+", text)
        assert address
        assert key
        yield environment | {"OPENAI_BASE_URL": address[1], "OPENAI_API_KEY": key[0]}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        process.stderr.close()


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=page, marks=PATIENT if SANDBOX in block else ())
        for page, block in SHORT
    ],
)
def test_shell_blocks_run(block: str, shell_environment: dict[str, str]) -> None:
    runtime = "docker" if SANDBOX in block else "none"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env=shell_environment | {"THREADLOOM_CODE_INTERPRETER__RUNTIME": runtime},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout, done.stdout


def test_long_commands_are_there() -> None:
    named = {line.split("  ")[0] for _, block in shell_blocks() for line in block.splitlines()}
    targets = sorted(line.split()[1] for line in named if line.startswith("make "))
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)
    for target in ("test", "sandbox"):
        assert target in targets
        assert f"make {target}" in (ROOT / ".ci" / "run").read_text()
