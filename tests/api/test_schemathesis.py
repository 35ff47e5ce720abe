"""Requests made from our own OpenAPI document: it must be true, and nothing may break the server."""

# Schemathesis leaves the parameters of its generics open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false

import asyncio
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.postgres import Postgres, sqlalchemy_url
from tests.support.server import running_server
from threadloom.config import Settings
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
STATUSES = {200, 400, 404, 413}
EXAMPLES = {"sqlite": 8, "postgresql": 3}
"""Of each operation, of requests that fit the document and of such that do not: most are judged before any database is asked."""
EXPLORE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=(
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ),
)


@dataclass
class Site:
    """A server in a thread of its own, because Schemathesis calls it from this one."""

    port: int
    key: str
    examples: int

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def site_on(url: str, examples: int) -> Generator[Site]:
    ready = Future[tuple[Site, asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        stopped = asyncio.Event()
        async with (
            build_models(Settings(), RandomIds()) as models,
            running_server(url, models) as running,
        ):
            site = Site(running.port, running.key, examples)
            ready.set_result((site, asyncio.get_running_loop(), stopped))
            await stopped.wait()

    with ThreadPoolExecutor(max_workers=1) as pool:
        serving = pool.submit(lambda: asyncio.run(serve()))
        site, loop, stopped = ready.result(timeout=60)
        yield site
        loop.call_soon_threadsafe(stopped.set)
        serving.result()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Site]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("schemathesis") / "threadloom.db"
        path.write_bytes(request.getfixturevalue("migrated_sqlite").read_bytes())
        with site_on(f"sqlite:///{path}", EXAMPLES["sqlite"]) as running:
            yield running
    else:
        server: Postgres = request.getfixturevalue("postgres")
        with (
            server.database() as url,
            site_on(sqlalchemy_url(url), EXAMPLES["postgresql"]) as running,
        ):
            yield running


@pytest.fixture
def document(site: Site) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{site.root}/openapi.json")


def make_objects(site: Site) -> dict[str, str]:
    """The ids of objects that requests can be about."""
    with httpx2.Client(base_url=f"{site.root}/v1", headers=site.headers, timeout=60) as http:
        assistant = http.post("/assistants", json={"model": "m"}).json()
        thread = {"messages": [{"role": "user", "content": "Hi"}]}
        body = {"assistant_id": assistant["id"], "thread": thread}
        run = http.post("/threads/runs", json=body).json()
        path = f"/threads/{run['thread_id']}"
        http.get(f"{path}/runs/{run['id']}/events")
        steps = http.get(f"{path}/runs/{run['id']}/steps").json()
        messages = http.get(f"{path}/messages").json()
    return {
        "assistant_id": assistant["id"],
        "thread_id": run["thread_id"],
        "run_id": run["id"],
        "step_id": steps["first_id"],
        "message_id": messages["first_id"],
    }


@pytest.mark.timeout(240)  # every operation, some with a dozen requests
def test_the_document_is_true(document: schemathesis.BaseSchema, site: Site) -> None:
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation, ids = found.ok(), make_objects(site)
        for mode in modes(operation):
            explore(operation.as_strategy(generation_mode=mode), site, ids)


def explore(cases: SearchStrategy[Case], site: Site, ids: dict[str, str]) -> None:
    def ask(case: Case) -> None:
        case.path_parameters.update({name: ids.get(name, "m") for name in case.path_parameters})
        with_real_assistant(case.body, ids)
        response = case.call(base_url=site.root, headers=site.headers, timeout=60)
        case.validate_response(response, checks=CHECKS)
        assert response.status_code in STATUSES

    settings(EXPLORE, max_examples=site.examples)(given(case=cases)(ask))()


def modes(operation: schemathesis.APIOperation) -> Iterator[GenerationMode]:
    """Requests that fit the document, and requests that do not where there is something to get wrong."""
    yield GenerationMode.POSITIVE
    if operation.query or operation.body:
        yield GenerationMode.NEGATIVE


def with_real_assistant(body: Any, ids: dict[str, str]) -> None:
    if isinstance(body, dict) and isinstance(body.get("assistant_id"), str):
        body["assistant_id"] = ids["assistant_id"]


def test_the_document_knows_our_refusals_and_no_others(site: Site) -> None:
    paths = httpx2.get(f"{site.root}/openapi.json").json()["paths"]
    documented = [
        operation["responses"] for methods in paths.values() for operation in methods.values()
    ]
    refusal = {"schema": {"$ref": "#/components/schemas/Refusal"}}
    assert {frozenset(responses) for responses in documented} == {frozenset({"200", "4XX", "503"})}
    assert all(one["4XX"]["content"]["application/json"] == refusal for one in documented)
