"""What the server writes down of what it does: who and how long, never what was said, and no key."""

import io
import json
import logging
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from tests.api.wire import make_file
from tests.retrieval.index.checks import (
    DIMENSIONS,
    SettledIndex,
    assert_like_brute_force,
    some_files,
)
from tests.retrieval.index.conftest import MEMORY, PACKED
from tests.retrieval.index.rows import clustered, filled_store, raise_generation
from tests.runs.driver import Api
from tests.support import scenario
from tests.support.scenario import fail, ingested, use_everything, whole_server
from tests.support.server import running_server
from threadloom.app import create_app
from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.ids import RandomIds
from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.contents import read_chunks
from threadloom.retrieval.index.keeper import Keeper
from threadloom.retrieval.index.pgvector_index import warning
from threadloom.retrieval.index.segments import Segment
from threadloom.telemetry import logs
from threadloom.testing import EchoTool, ScriptedModel, ScriptedModels

Line = dict[str, Any]
PROVIDER_SAYS = "Pelargonium"
WRONG_KEY = "sk-1234567890123456789"
BROKEN_PDF = b"%PDF-1.7 celadon_in_a_document"
SECRETS = (*scenario.SECRETS, PROVIDER_SAYS, WRONG_KEY, "celadon")


@pytest.fixture
def log() -> Generator[io.StringIO]:
    """What a process would write on standard error, all levels of it; libraries are bridged by `tests.support.secrecy`."""
    written = io.StringIO()
    structlog.configure(
        processors=[*logs.PROCESSORS, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(written),
        cache_logger_on_first_use=False,
    )
    yield written
    structlog.reset_defaults()


def lines(log: io.StringIO) -> list[Line]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def told(log: io.StringIO) -> list[str]:
    """The secrets that were written down."""
    return [secret for secret in SECRETS if secret in log.getvalue()]


async def test_a_log_has_no_texts_and_no_keys(database_url: str, log: io.StringIO) -> None:
    async with whole_server(database_url) as running, running.http() as http:
        run_id = await use_everything(http)
        await fail(http, f"[[status:401 message={PROVIDER_SAYS}]]")
        await fail(http, f"[[status:400 message={PROVIDER_SAYS}]]")
        await fail(http, f"[[text:{PROVIDER_SAYS}]][[garbage]]")
        await fail(http, f"[[text:{PROVIDER_SAYS} twice]][[drop-after:1]]")
        file_id = (await make_file(http, BROKEN_PDF, "celadon.pdf"))["id"]
        assert (await ingested(Api(http), file_id))["file_counts"]["failed"] == 1
        await http.get("/assistants", headers={"Authorization": f"Bearer {WRONG_KEY}"})
        await http.post("/assistants", json={"model": ["cobalt"], "instructions": 7})
        key = running.key
    written = lines(log)
    assert {"run queued", "left", "model call failed"} <= {line["event"] for line in written}
    assert all({"level", "timestamp"} <= line.keys() for line in written)
    queued = next(line for line in written if line["event"] == "run queued")
    assert queued["run_id"] == run_id
    assert queued["request_id"].startswith("req_")
    assert all("run_id" in line for line in written if line["event"] == "model call failed")
    assert told(log) == []
    assert key not in log.getvalue()


async def test_a_bug_is_logged_with_its_place_alone(sqlite_url: str, log: io.StringIO) -> None:
    model, tool = ScriptedModel(), EchoTool()
    bug = ValueError(f"cannot do {scenario.CODE_TEXT}")
    bug.__cause__ = KeyError(scenario.PASSAGE)
    tool.then(bug)
    model.calls((tool.name, scenario.ARGUMENTS))
    async with (
        running_server(sqlite_url, ScriptedModels(model), built_in={tool.name: tool}) as running,
        running.http() as http,
    ):
        talk = await Api(http).talk(scenario.QUESTION, tools=[{"type": tool.name}])
        body = {"assistant_id": talk.assistant, "stream": True}
        async with Api(http).stream("POST", f"{talk.path}/runs", body) as stream:
            assert "server_error" in await stream.rest()
    broke = next(line for line in lines(log) if line["event"] == "run broke")
    assert broke["level"] == "error"
    assert broke["run_id"].startswith("run_")
    assert broke["exception"].startswith("builtins.ValueError at testing/tool.py:")
    assert "in run < runs/engine.py:" in broke["exception"]
    assert broke["exception"].endswith("; builtins.KeyError at no place")
    assert told(log) == []


class BreakingSearch:
    """A bug in what a request calls."""

    async def find(self, *_: object, **__: object) -> None:
        raise ValueError(scenario.PASSAGE)


async def test_a_request_that_broke_is_found_by_its_id(sqlite_url: str, log: io.StringIO) -> None:
    async with (
        running_server(sqlite_url, ScriptedModels(ScriptedModel())) as running,
        running.http() as http,
    ):
        store = await Api(http).post("/vector_stores", {})
        broken: Any = BreakingSearch()
        app = create_app(replace(running.context, search=broken))
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url=running.base_url, headers=http.headers
        ) as client:
            path = f"/vector_stores/{store['id']}/search"
            answer = await client.post(path, json={"query": scenario.QUESTION})
    assert answer.status_code == 500
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json()["error"]["message"]
    (broke,) = [line for line in lines(log) if line["event"] == "request broke"]
    assert broke["request_id"] == request_id
    assert broke["route"] == "/v1/vector_stores/{vector_store_id}/search"
    assert told(log) == []


def test_what_libraries_log_loses_what_they_put_into_it(log: io.StringIO) -> None:
    library = logging.getLogger("library")
    library.warning("Could not read %s", scenario.PASSAGE)
    library.error("Task exception was never retrieved\nfuture: ValueError(%r)", scenario.PASSAGE)
    first, second = lines(log)
    assert (first["event"], first["logger"]) == ("Could not read %s", "library")
    assert second["event"] == "Task exception was never retrieved"
    assert told(log) == []


class BreakingFiles(CacheFiles):
    """A bug in what makes searches quick."""

    def save(self, store_id: str, segment: Segment) -> Segment:
        raise ValueError(scenario.PASSAGE)


async def test_an_index_that_broke_is_logged_with_its_place_alone(
    sqlite_url: str, tmp_path: Path, log: io.StringIO
) -> None:
    database = Database(sqlite_url, clock=SystemClock(), ids=RandomIds())
    chance = np.random.default_rng(6)
    store = await filled_store(database, *some_files(chance, 30))
    index = SettledIndex(database, tmp_path, MEMORY, PACKED)
    files = BreakingFiles(tmp_path)
    index.keeper = Keeper(database, files, MEMORY, read=read_chunks, policy=PACKED)
    for _ in range(2):
        await assert_like_brute_force(index, store, clustered(chance, 1, DIMENSIONS)[0])
        await database.write(raise_generation, store.id)
    await index.close()
    await database.close()
    (broke,) = [line for line in lines(log) if line["event"] == "index was not prepared"]
    assert broke["exception"].startswith("builtins.ValueError at tests/test_logs.py:")
    assert told(log) == []


def test_a_graph_that_was_not_built_is_logged_without_what_the_database_said(
    log: io.StringIO,
) -> None:
    with warning():
        raise OperationalError("CREATE INDEX", None, ValueError(scenario.PASSAGE))
    (line,) = lines(log)
    assert line["event"] == "graph was not built"
    assert line["error"] == "OperationalError"
    assert told(log) == []
