"""The same program of an SDK's user, wherever state lives and however many processes there are.

What it does on one process with SQLite, FAISS and local files, tests/compat shows.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.compat.test_compat import expect_success, play
from tests.faults.processes import Fleet
from tests.faults.round_robin import round_robin
from tests.support.documents import handbook_pdf
from tests.support.postgres import Postgres
from tests.support.process import KEY
from tests.support.s3 import BUCKET, KEYS, running_s3
from threadloom.llm.router import EMBEDDED
from threadloom.testing.upstream import Upstream

PYTHON, NODE = "openai-3.52.0", "node-7.55.0"
PROCESSES = ("one", "two")

pytestmark = pytest.mark.timeout(180)  # the first run installs the SDKs


@asynccontextmanager
async def served(
    postgres: Postgres,
    folder: Path,
    settings: Mapping[str, str],
    *,
    upstream: str | None = None,
    in_s3: bool = True,
    apart: bool = False,
    workers: int = 2,
) -> AsyncGenerator[str]:
    """Two API and two worker processes on PostgreSQL, or two that do both; each request goes to the other API.

    `apart`: as on machines of their own, which share no data directory.
    """
    async with AsyncExitStack() as stack:
        fleet = Fleet(folder, stack.enter_context(postgres.database()), upstream)
        stack.callback(fleet.stop)
        common = {"THREADLOOM_AUTH__ADMIN_KEY": KEY, "THREADLOOM_SERVER__POLL_AFTER": "50ms"}
        if in_s3:
            common |= storage(await asyncio.to_thread(stack.enter_context, running_s3()))
        common |= settings
        servers = [
            fleet.serve(common | place(folder, f"api-{name}", apart=apart), with_worker=not workers)
            for name in PROCESSES
        ]
        behind = [
            fleet.worker(name, common | place(folder, f"worker-{name}", apart=apart))
            for name in PROCESSES[:workers]
        ]
        for process in (*servers, *behind):
            await process.ready()
        addresses = [f"http://127.0.0.1:{server.port}" for server in servers]
        yield f"{await stack.enter_async_context(round_robin(addresses))}/v1"
        for process in (*servers, *behind):
            log = process.log.read_text()
            assert '"level": "error"' not in log
            assert "Traceback" not in log


def storage(address: str) -> dict[str, str]:
    keys = {f"THREADLOOM_STORAGE__S3__{name.upper()}": value for name, value in KEYS.items()}
    where = {
        "THREADLOOM_STORAGE__URL": f"s3://{BUCKET}",
        "THREADLOOM_STORAGE__S3__ENDPOINT": address,
    }
    return keys | where


def place(folder: Path, name: str, *, apart: bool) -> dict[str, str]:
    return {"THREADLOOM_DATA_DIR": str(folder / name if apart else folder)}


async def played(release: str, address: str, scenario: str, **variables: str) -> None:
    report = await asyncio.to_thread(play, release, address, scenario, **variables)
    assert report["lacking"] == []
    expect_success(release, report)


@pytest.fixture
def handbook(tmp_path: Path) -> str:
    handbook_pdf(tmp_path / "handbook.pdf")
    return str(tmp_path / "handbook.pdf")


async def test_the_scenarios_pass_on_four_processes_with_pgvector_and_s3(
    postgres: Postgres, upstream: Upstream, tmp_path: Path, handbook: str
) -> None:
    settings = {"THREADLOOM_FILE_SEARCH__INDEX": "pgvector"}
    async with served(
        postgres, tmp_path, settings, upstream=upstream.base_url, apart=True
    ) as address:
        for sdk in (
            PYTHON,
            NODE,
        ):  # one after the other: they look at all of the project's assistants
            await played(sdk, address, "scripted")
        await played(PYTHON, address, "embedded", HANDBOOK=handbook, MODEL=EMBEDDED.id)


@pytest.mark.parametrize(
    "apart", [False, True], ids=["one data directory", "a data directory each"]
)
async def test_documents_are_found_by_two_processes_with_faiss(
    postgres: Postgres, tmp_path: Path, handbook: str, apart: bool
) -> None:
    async with served(postgres, tmp_path, {}, in_s3=apart, apart=apart, workers=0) as address:
        await played(PYTHON, address, "embedded", HANDBOOK=handbook)
