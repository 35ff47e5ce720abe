"""What the documents say is true: settings, links, commands."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from tests.db.test_migrations import OLDER, revision, stand_at
from tests.support.process import scripted_upstream
from threadloom.commands.serve import GRACE
from threadloom.config import load_settings
from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade
from tools import configuration, endpoints, errors

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("tool", [configuration, endpoints, errors], ids=lambda tool: tool.__name__)
def test_a_reference_tells_what_the_code_has(tool: ModuleType) -> None:
    assert tool.PAGE.read_text() == tool.page(), f"Run `python -m {tool.__name__}`."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = [
        f"{target}#{place}"
        for target, place in links(page)
        if not target.exists() or (place and place not in places(target))
    ]
    assert not missing


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page leads to, each with the place in it, if there is one."""
    found = re.findall(r"\]\((?!https?://|sandbox:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text())
    return [
        ((page.parent / target).resolve() if target else page, place) for target, place in found
    ]


def places(page: Path) -> set[str]:
    """What headings are called in addresses."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_two_clicks_from_the_map() -> None:
    index = ROOT / "docs" / "index.md"
    near = {index, *led_to(index)}
    near.update(*map(led_to, near))
    lost = [str(page.relative_to(ROOT)) for page in PAGES if page not in near]
    assert not lost


def led_to(page: Path) -> set[Path]:
    """Pages of this repository. A link to a folder shows what is in it."""
    targets = {target for target, _ in links(page)}
    listed = {one for target in targets if target.is_dir() for one in target.glob("*.md")}
    return {target for target in targets if target in PAGES} | listed


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
PATIENT = (pytest.mark.docker, pytest.mark.timeout(300))
# tests/container runs the blocks of this page.
IN_CONTAINERS = "compose.md"
WITH_A_MODEL = "export THREADLOOM_UPSTREAM__BASE_URL="
OLLAMA = "http://127.0.0.1:11434/v1"
STARTING = ("make serve", WITH_A_MODEL)
TRYING = ".venv/bin/threadloom models test\n"
EXPORTS = "export OPENAI_BASE_URL="
# Whoever comes from OpenAI may have its key in the environment still.
OF_OPENAI = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": "sk-proj-of-openai"}
SHORT = [
    (page, block)
    for page, block in shell_blocks()
    if page != IN_CONTAINERS and not block.startswith((*STARTING, *LONG))
]


@pytest.fixture(scope="module")
def shell_environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """A server started with the README's first command, and what a reader's shell would know of it."""
    command = next(block for _, block in shell_blocks() if block.startswith("make serve"))
    with served(command, tmp_path_factory.mktemp("readme")) as environment:
        yield environment


@contextmanager
def served(command: str, home: Path) -> Generator[dict[str, str]]:
    """A server that a command starts, and the variables with which a reader uses it."""
    environment = {
        "PATH": f"{with_python(home / 'bin')}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.environ["PYTHONPATH"],  # by which `tests.support.secrecy` reads its log
        "THREADLOOM_DATA_DIR": str(home / "data"),
        "THREADLOOM_SERVER__PORT": "0",
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "none",
    }
    process = subprocess.Popen(
        ["bash", "-euc", command],
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


def with_python(folder: Path) -> Path:
    """A reader's `python` has the SDK installed, as the tests' own has."""
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=page, marks=PATIENT if SANDBOX in block else ())
        for page, block in SHORT
    ],
)
def test_shell_blocks_run(block: str, shell_environment: dict[str, str]) -> None:
    runtime = "docker" if SANDBOX in block else "none"
    variables = shell_environment | {"THREADLOOM_CODE_INTERPRETER__RUNTIME": runtime}
    if EXPORTS in block:
        block, variables = filled_in(block, variables), variables | OF_OPENAI
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout, done.stdout


def filled_in(block: str, variables: dict[str, str]) -> str:
    """A reader writes the key that their server printed; its address here is not the usual one."""
    return block.replace("http://127.0.0.1:8484/v1", variables["OPENAI_BASE_URL"]).replace(
        "sk-…", variables["OPENAI_API_KEY"]
    )


def test_a_real_model_takes_the_place_of_the_demonstration(tmp_path: Path) -> None:
    [written] = [text for _, text in shell_blocks() if text.startswith(WITH_A_MODEL)]
    with (
        scripted_upstream(tmp_path) as upstream,
        served(block := written.replace(OLLAMA, upstream), tmp_path) as environment,
    ):
        answered = subprocess.run(
            ["sh", "examples/poll.sh"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert TRYING in [text for _, text in shell_blocks()]
        tried = subprocess.run(
            ["bash", "-euc", block.replace("make serve\n", TRYING)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,  # the scripted model calls no function
        )
        calls = httpx2.get(upstream.removesuffix("/v1") + "/calls").json()
    assert "demonstration" not in answered.stdout
    assert "My name is Ada. What can you do?" in calls
    assert re.search(r"^qwen3:14b +qwen3:14b +upstream +yes", tried.stdout, re.MULTILINE)


def test_a_unit_of_systemd_gives_requests_their_time() -> None:
    page = (ROOT / "docs" / "processes.md").read_text()
    found = re.search(r"```ini\n(.*?)```", page, re.DOTALL)
    assert found
    unit = ConfigParser()
    unit.read_string(found[1])
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > GRACE
    assert service["ExecStart"].endswith("/.venv/bin/threadloom serve")


def test_the_way_back_from_an_upgrade(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "upgrade.md").read_text()
    block = re.search(r"```text\n(rm -f .*?)```", page, re.DOTALL)
    assert block
    data = tmp_path / ".threadloom"
    data.mkdir()
    engine = create_engine(f"sqlite:///{data / 'threadloom.db'}")
    stand_at(engine, OLDER)
    upgrade(engine)
    back = re.sub(r"before-\d+", f"before-{revision(engine)}", block[1])
    engine.dispose()
    subprocess.run(["bash", "-euc", back], cwd=tmp_path, check=True)
    assert revision(engine) == OLDER
    engine.dispose()


def test_the_readme_fits_on_two_screens_and_claims_what_the_table_shows() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 120
    claim = re.search(r"(\d+) of the (\d+) operations", readme)
    shown = re.search(r"Of the (\d+) operations .* \*\*(\d+) are here", endpoints.page())
    assert claim
    assert shown
    assert claim.groups() == shown.groups()[::-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configurations_are_valid(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(
        re.findall(r"```yaml\n(# config\.yaml.*?)```", page.read_text(), re.DOTALL)
    ):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        load_settings({}, config=file)


def test_long_commands_are_there() -> None:
    named = {line.split("  ")[0] for _, block in shell_blocks() for line in block.splitlines()}
    targets = sorted(line.split()[1] for line in named if line.startswith("make "))
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)
    for target in ("test", "sandbox"):
        assert target in targets
        assert f"make {target}" in (ROOT / ".ci" / "run").read_text()
