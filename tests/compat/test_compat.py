"""The official SDKs, old and new, against a server that really runs: one scenario for each language."""

import json
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.compat.install import HOME, PACKAGES, REQUIREMENTS, ROOT, install
from tests.support.documents import handbook_pdf
from tests.support.engine import MIB
from tests.support.postgres import Postgres
from tests.support.process import KEY, environment, scripted_upstream, serving

HERE = Path(__file__).parent
RELEASES = (*REQUIREMENTS, *PACKAGES)
# With `client.beta.vector_stores` and with `client.vector_stores`.
TELLING = ("openai-1.30.5", "openai-1.65.5", "openai-3.52.0", "node-4.104.0", "node-7.55.0")
OLDEST_AND_NEWEST = ("openai-1.30.5", "openai-3.52.0", "node-7.55.0")
"""For what no release does otherwise than those before and after it."""
LACKING = {"openai-1.30.5": ["steps_take_include", "runs_take_include_parallel_calls_and_effort"]}

# Few sandboxes at once: a thread may find its own gone, and its files in a new one.
SANDBOXES = {
    "THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker",
    "THREADLOOM_CODE_INTERPRETER__MEMORY": str(384 * MIB),
    "THREADLOOM_CODE_INTERPRETER__DISK": str(64 * MIB),
    "THREADLOOM_CODE_INTERPRETER__MAX_SESSIONS": "3",
}

pytestmark = pytest.mark.timeout(300)  # the first run installs the SDKs


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with scripted_upstream(tmp_path_factory.mktemp("upstream")) as address:
        yield address


@pytest.fixture(scope="module")
def scripted_server(
    request: pytest.FixtureRequest, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    with scripted(request, provider, tmp_path_factory) as address:
        yield address


@pytest.fixture(scope="module")
def scripted_server_with_sandboxes(
    request: pytest.FixtureRequest, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    with scripted(request, provider, tmp_path_factory, SANDBOXES) as address:
        yield address


@contextmanager
def scripted(
    request: pytest.FixtureRequest,
    provider: str,
    tmp_path_factory: pytest.TempPathFactory,
    more: Mapping[str, str] | None = None,
) -> Generator[str]:
    with ExitStack() as stack:
        settings = {"THREADLOOM_UPSTREAM__BASE_URL": provider, **(more or {})}
        if request.param == "postgresql":
            postgres: Postgres = request.getfixturevalue("postgres")
            settings["THREADLOOM_DATABASE__URL"] = stack.enter_context(postgres.database())
        yield stack.enter_context(serving(tmp_path_factory.mktemp("server"), settings))


@pytest.fixture(scope="module")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with serving(tmp_path_factory.mktemp("embedded")) as address:
        yield address


@pytest.fixture(scope="module")
def embedded_server_with_sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with serving(tmp_path_factory.mktemp("sandboxes"), SANDBOXES) as address:
        yield address


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "handbook.pdf"
    handbook_pdf(path)
    return path


@pytest.mark.parametrize(
    ("scripted_server", "release"),
    [
        *(("sqlite", release) for release in RELEASES),
        *(("postgresql", release) for release in OLDEST_AND_NEWEST),
    ],
    indirect=["scripted_server"],
)
def test_a_release_of_an_sdk_runs_the_scenario(scripted_server: str, release: str) -> None:
    report = play(release, scripted_server, "scripted")
    assert report["lacking"] == LACKING.get(release, [])
    expect_success(release, report)


@pytest.mark.parametrize("release", TELLING)
def test_a_release_of_an_sdk_talks_to_the_embedded_model(
    embedded_server: str, handbook: Path, release: str
) -> None:
    report = play(release, embedded_server, "embedded", HANDBOOK=str(handbook))
    assert report["lacking"] == []
    expect_success(release, report)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("scripted_server_with_sandboxes", "release"),
    [*(("sqlite", release) for release in TELLING), ("postgresql", TELLING[2])],
    indirect=["scripted_server_with_sandboxes"],
)
def test_a_release_of_an_sdk_has_code_run(
    scripted_server_with_sandboxes: str, release: str
) -> None:
    report = play(release, scripted_server_with_sandboxes, "code")
    assert report["lacking"] == []
    expect_success(release, report)


@pytest.mark.docker
@pytest.mark.parametrize("release", OLDEST_AND_NEWEST)
def test_a_release_of_an_sdk_has_the_embedded_model_analyse_a_table(
    embedded_server_with_sandboxes: str, release: str
) -> None:
    report = play(release, embedded_server_with_sandboxes, "analysis")
    assert report["lacking"] == []
    expect_success(release, report)


def play(release: str, address: str, scenario: str, **variables: str) -> dict[str, Any]:
    """What the scenario reports."""
    interpreter = install(release)
    command = [str(interpreter), "-Wignore", "-m", "tests.compat.scenario", scenario]
    if release in PACKAGES:
        # Node looks for packages beside the program.
        for program in HERE.glob("*.mjs"):
            shutil.copy(program, HOME / release)
        program = "code.mjs" if scenario in ("code", "analysis") else "scenario.mjs"
        command = [str(interpreter), str(HOME / release / program), scenario]
    keys = {"OPENAI_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY}
    given = environment(OPENAI_BASE_URL=address, **keys, **variables)
    run = subprocess.run(
        command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=180, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def expect_success(release: str, report: dict[str, Any]) -> None:
    assert report["failed"] == {}, "\n".join(report["failed"].values())
    assert report["passed"]
    assert report["sdk"] == release.partition("-")[2]
