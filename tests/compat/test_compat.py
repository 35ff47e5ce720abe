"""The official SDKs, old and new, against a server that really runs: one scenario for each language."""

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.compat.install import HOME, PACKAGES, REQUIREMENTS, ROOT, install
from tests.support.documents import handbook_pdf
from tests.support.postgres import Postgres
from tests.support.process import KEY, environment, scripted_upstream, serving

HERE = Path(__file__).parent
RELEASES = (*REQUIREMENTS, *PACKAGES)
# With `client.beta.vector_stores` and with `client.vector_stores`.
TELLING = ("openai-1.30.5", "openai-1.65.5", "openai-3.52.0", "node-4.104.0", "node-7.55.0")
LACKING = {"openai-1.30.5": ["steps_take_include", "runs_take_include_parallel_calls_and_effort"]}

pytestmark = pytest.mark.timeout(300)  # the first run installs the SDKs


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with scripted_upstream(tmp_path_factory.mktemp("upstream")) as address:
        yield address


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def scripted_server(
    request: pytest.FixtureRequest, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    with ExitStack() as stack:
        settings = {"THREADLOOM_UPSTREAM__BASE_URL": provider}
        if request.param == "postgresql":
            postgres: Postgres = request.getfixturevalue("postgres")
            settings["THREADLOOM_DATABASE__URL"] = stack.enter_context(postgres.database())
        yield stack.enter_context(serving(tmp_path_factory.mktemp("server"), settings))


@pytest.fixture(scope="module")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with serving(tmp_path_factory.mktemp("embedded")) as address:
        yield address


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "handbook.pdf"
    handbook_pdf(path)
    return path


@pytest.mark.parametrize("release", RELEASES)
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


def play(release: str, address: str, model: str, **variables: str) -> dict[str, Any]:
    """What the scenario reports."""
    interpreter = install(release)
    command = [str(interpreter), "-Wignore", "-m", "tests.compat.scenario", model]
    if release in PACKAGES:
        # Node looks for packages beside the program.
        program = shutil.copy(HERE / "scenario.mjs", HOME / release)
        command = [str(interpreter), str(program), model]
    keys = {"OPENAI_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY}
    given = environment(OPENAI_BASE_URL=address, **keys, **variables)
    run = subprocess.run(
        command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=90, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def expect_success(release: str, report: dict[str, Any]) -> None:
    assert report["failed"] == {}, "\n".join(report["failed"].values())
    assert report["passed"]
    assert report["sdk"] == release.partition("-")[2]
