"""The examples do what `docs/transcripts.md` says they do."""

import re
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.process import serving
from tools.transcripts import (
    CODE,
    FOLLOW_UP,
    OLD,
    PROGRAMS,
    PYTHON,
    ROOT,
    documented,
    masked,
    play,
    prepared,
    session_of_old,
    session_with_code,
    thread_in,
)

EMBEDDED = "The embedded model"
OF_2024 = "A program of 2024"
WITH_CODE = "The code interpreter"
LOCAL = "A small language model in the process"

pytestmark = pytest.mark.timeout(300)  # the first run installs the Node SDK


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("examples") / "home")


@pytest.fixture(scope="module")
def address(home: Path) -> Generator[str]:
    with serving(home) as address:
        yield address


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_prints_what_the_documentation_shows(
    home: Path, address: str, program: str
) -> None:
    assert masked(play(home, program, address)) == documented(EMBEDDED)[program]


def test_a_program_goes_on_with_the_id_of_its_assistant(tmp_path: Path) -> None:
    assert session_of_old(prepared(tmp_path / "home")) == documented(OF_2024)


@pytest.mark.docker
def test_an_example_has_code_run_and_saves_what_it_makes(tmp_path: Path) -> None:
    home = prepared(tmp_path / "home")
    assert session_with_code(home) == documented(WITH_CODE)
    assert (home / "chart.png").read_bytes().startswith(b"\x89PNG")
    summary = (home / "sales_summary.csv").read_text()
    assert summary.startswith("region,sum of revenue by region\nnorth,")


def test_a_thread_goes_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    home = prepared(tmp_path / "home")
    with serving(home) as address:
        thread = thread_in(play(home, PROGRAMS[0], address))
    with serving(home) as address:
        printed = play(home, FOLLOW_UP.format(thread), address)
    assert masked(printed) == documented(EMBEDDED)[FOLLOW_UP.format("thread_…")]


@pytest.mark.parametrize(("heading", "programs"), [(EMBEDDED, PROGRAMS), (LOCAL, PYTHON)])
def test_the_documentation_shows_every_example(heading: str, programs: tuple[str, ...]) -> None:
    assert list(documented(heading)) == [*programs, FOLLOW_UP.format("thread_…")]


def test_every_example_is_tested() -> None:
    files = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    commands = (*PROGRAMS, *OLD, *CODE, FOLLOW_UP)
    run = {name for command in commands for name in re.findall(r"examples/(\S+)", command)}
    assert files - {"README.md", "sales.csv", "handbook.md"} == run
