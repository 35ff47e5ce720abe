"""What operators see: every documented metric under load, spans of runs, and who may look."""

import asyncio
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text as statement

from tests.faults.processes import free_port
from tests.support import scenario
from tests.support.collector import collecting
from tests.support.process import KEY, serving
from tests.support.scenario import fail, use_everything, whole_server
from tests.support.server import Running
from threadloom.api.keys import Keys, ensure_project
from threadloom.app import create_app
from threadloom.db.rows import WebhookDeliveryRow
from threadloom.db.tx import Tx
from threadloom.exposition import listening
from threadloom.telemetry import genai, metrics, tracing
from threadloom.telemetry.metrics import documented

ROOT = Path(__file__).parents[1]
Samples = dict[str, float]
SECRETS = (*scenario.SECRETS, "sk-")


async def scraped(running: Running) -> str:
    """What Prometheus would read from this machine, without a key."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http:
        response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return response.text


def families(text: str) -> dict[str, str]:
    """The kinds of all metrics by their names."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def samples(text: str) -> Samples:
    """Each line's value by its name and labels."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def risen(before: Samples, after: Samples, name: str) -> dict[str, float]:
    """By how much the lines of a metric rose."""
    return {
        line.removeprefix(name): value - before.get(line, 0)
        for line, value in after.items()
        if re.fullmatch(name + r"(\{.*\})?", line) and value != before.get(line, 0)
    }


async def burst(running: Running) -> set[int]:
    """More requests at once than the server takes."""
    async with running.http() as http:
        answers = await asyncio.gather(*(http.get("/assistants") for _ in range(60)))
    return {answer.status_code for answer in answers}


async def test_metrics_hold_every_documented_name_under_load(database_url: str) -> None:
    async with (
        whole_server(database_url, {"server": {"max_requests": 8}}) as running,
        running.http() as http,
    ):
        before = samples(await scraped(running))
        await asyncio.gather(*(use_everything(http) for _ in range(2)))
        assert (await fail(http, "[[status:401]]", model="gpt-made-up"))["status"] == "failed"
        assert (await fail(http, "[[status:500 times=1]]"))["status"] == "completed"
        running.check.expected_statuses = {503}
        assert {503} <= await burst(running) <= {200, 503}
        text = await scraped(running)
        after = samples(text)
        found = families(text)
        assert {one.name: one.kind for one in documented()}.items() <= found.items()

        ended = risen(before, after, "threadloom_runs_ended_total")
        assert ended == {'{status="completed"}': 3, '{status="failed"}': 1}
        # A name that a client made up is not told.
        assert "gpt-made-up" not in text
        errors = risen(before, after, "threadloom_model_errors_total")
        assert errors == {'{code="server_error",provider="upstream"}': 1}
        assert risen(before, after, "threadloom_model_retries_total") == {
            '{provider="upstream"}': 1
        }
        tools = risen(before, after, "threadloom_tool_call_seconds_count")
        assert set(tools) == {
            '{outcome="completed",tool="code_interpreter"}',
            '{outcome="completed",tool="file_search"}',
        }
        assert risen(before, after, "threadloom_ingestion_files_total") == {
            '{outcome="completed"}': 2
        }
        assert after["threadloom_streams_open"] == 0
        assert after['threadloom_queue_due{queue="runs"}'] == 0
        assert not re.search(r"(run|thread|asst|file|vs|req|proj|key)_[A-Za-z0-9]{16}", text)
        assert not [one for one in SECRETS if one in text]


async def test_routes_are_templates(database_url: str) -> None:
    async with whole_server(database_url) as running, running.http() as http:
        before = samples(await scraped(running))
        await http.get("/threads/thread_unknown/runs/run_unknown")
        await http.get("/nowhere/at/all")
        await http.request("PROPFIND", "/assistants")
        await http.get("/assistants", headers={"Authorization": "Bearer sk-wrong"})
        after = samples(await scraped(running))
    counted = risen(before, after, "threadloom_http_request_seconds_count")
    assert (
        counted.items()
        >= {
            '{method="GET",route="/v1/threads/{thread_id}/runs/{run_id}",status="404"}': 1,
            '{method="GET",route="other",status="404"}': 1,
            '{method="other",route="/v1/assistants",status="405"}': 1,
            '{method="GET",route="other",status="401"}': 1,
        }.items()
    )


async def test_what_waits_for_a_worker_is_counted(database_url: str) -> None:
    async with whole_server(database_url) as running, running.http() as http:
        running.background.drain()
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await leave_waiting(running, http)


async def leave_waiting(running: Running, http: httpx2.AsyncClient) -> None:
    assistant = (await http.post("/assistants", json={"model": "gpt-4o"})).json()["id"]
    body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "x"}]}}
    assert (await http.post("/threads/runs", json=body)).status_code == 200
    found: Samples = {}
    while not found.get('threadloom_queue_oldest_due_seconds{queue="runs"}'):
        found = samples(await scraped(running))
    assert found['threadloom_queue_due{queue="runs"}'] == 1


async def test_every_answer_has_an_id_and_the_time_it_took(sqlite_url: str) -> None:
    settings = {"server": {"max_body": 2048, "max_requests": 2}}
    async with whole_server(sqlite_url, settings) as running, running.http() as http:
        running.check.expected_statuses = {503}
        assistant = (await http.post("/assistants", json={"model": "gpt-4o"})).json()["id"]
        thread = {"messages": [{"role": "user", "content": "Hi"}]}
        body = {"assistant_id": assistant, "stream": True, "thread": thread}
        answers = [
            await http.post("/threads/runs", json=body),
            await http.get("/nowhere"),
            await http.get("/assistants", headers=bearing("sk-wrong")),
            await http.post("/assistants", json={"model": "x" * 4096}),
            await http.request("PUT", "/assistants"),
            *await asyncio.gather(*(http.get("/assistants") for _ in range(20))),
        ]
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 404, 401, 413, 405, 503}
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", one.headers["x-request-id"]) for one in answers)
    assert all(one.headers["openai-processing-ms"].isdecimal() for one in answers)
    assert len({one.headers["x-request-id"] for one in answers}) == len(answers)


# Who may look


def from_afar(running: Running, keys: Keys | None = None) -> httpx2.AsyncClient:
    """A client without a key on another machine."""
    app = create_app(replace(running.context, keys=keys or running.context.keys))
    transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 40_000))
    return httpx2.AsyncClient(transport=transport, base_url="http://threadloom.test")


async def test_others_need_the_admin_key(sqlite_url: str) -> None:
    async with whole_server(sqlite_url) as running:
        project = await running.database.write(ensure_project)
        keys = Keys(running.database, admin_key="sk-admin", default_project=project)
        async with from_afar(running, keys) as http:
            none = await http.get("/metrics")
            other = await http.get("/metrics", headers=bearing(running.key))
            admin = await http.get("/metrics", headers=bearing("sk-admin"))
    assert (none.status_code, other.status_code, admin.status_code) == (401, 401, 200)
    assert "auth.admin_key" in other.json()["error"]["message"]


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_metrics_may_be_opened_or_switched_off(sqlite_url: str) -> None:
    async with (
        whole_server(sqlite_url, {"telemetry": {"open_metrics": True}}) as running,
        from_afar(running) as http,
    ):
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/version")).status_code == 401
    async with (
        whole_server(sqlite_url, {"telemetry": {"metrics": False}}) as running,
        httpx2.AsyncClient() as http,
    ):
        gone = await http.get(f"http://127.0.0.1:{running.port}/metrics")
    assert gone.status_code == 404


async def test_a_worker_has_a_port_for_metrics_alone(database_url: str) -> None:
    async with (
        whole_server(database_url) as running,
        listening(running.database, "127.0.0.1", 0) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert "threadloom_queue_due" in (await http.get("/metrics")).text
        assert (await http.get("/v1/assistants")).status_code == 404
        assert (await http.post("/metrics")).status_code == 404


async def test_metrics_are_told_when_the_database_cannot_be_asked(database_url: str) -> None:
    async with whole_server(database_url) as running:
        await scraped(running)
        await running.database.write(rename, "webhook_deliveries", "gone")
        text = await scraped(running)
        await running.database.write(rename, "gone", "webhook_deliveries")
    assert "threadloom_http_request_seconds" in text
    assert "threadloom_queue_due{" not in text


def rename(tx: Tx, table: str, name: str) -> None:
    tx.session.execute(statement(f"ALTER TABLE {table} RENAME TO {name}"))


# Traces


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """OpenTelemetry takes one provider in a process."""
    memory = InMemorySpanExporter()
    tracing.start(SimpleSpanProcessor(memory))
    return memory


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Generator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    exporter.clear()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_run_with_three_tools_is_one_trace(
    database_url: str, spans: InMemorySpanExporter
) -> None:
    async with whole_server(database_url) as running, running.http() as http:
        run_id = await use_everything(http)
    found = spans.get_finished_spans()
    assert {span.context.trace_id for span in found if span.context} == {
        tracing.trace_id_of(run_id)
    }
    assert sorted(span.name for span in found) == [
        "chat scripted",
        "chat scripted",
        "execute_tool code_interpreter",
        "execute_tool file_search",
        "execute_tool get_weather",
        "invoke_agent",
        "invoke_agent",
        "retrieval",
    ]
    parents = {span.context.span_id: span.name for span in found if span.context}
    under = {span.name: parents.get(span.parent.span_id) for span in found if span.parent}
    assert under == {
        "chat scripted": "invoke_agent",
        "execute_tool code_interpreter": "invoke_agent",
        "execute_tool file_search": "invoke_agent",
        "execute_tool get_weather": "invoke_agent",
        "retrieval": "execute_tool file_search",
    }
    operations = {attributes(span)[genai.OPERATION] for span in found}
    assert operations == {"invoke_agent", "chat", "execute_tool", "retrieval"}
    last = attributes(found[-1])
    assert last[genai.RUN_ID] == run_id
    assert last[genai.RUN_STATUS] == "completed"
    assert last[genai.INPUT_TOKENS] > 0
    chat = next(attributes(span) for span in found if span.name == "chat scripted")
    assert chat[genai.PROVIDER] == "upstream"
    assert chat[genai.FINISH_REASONS] == ("tool_calls",)
    assert chat[genai.OUTPUT_TOKENS] > 0
    told = "".join(span.to_json() for span in found)
    assert not [one for one in SECRETS if one in told]


async def test_a_span_says_how_a_model_failed_and_not_what_it_said(
    sqlite_url: str, spans: InMemorySpanExporter
) -> None:
    async with whole_server(sqlite_url) as running, running.http() as http:
        await fail(http, "[[status:429 message=Pelargonium code=rate_limit_exceeded]]")
    found = spans.get_finished_spans()
    chat = next(span for span in found if span.name == "chat scripted")
    assert attributes(chat)[genai.ERROR_TYPE] == "rate_limit_exceeded"
    assert not chat.status.is_ok
    assert not chat.events
    assert "Pelargonium" not in "".join(span.to_json() for span in found)


def test_a_process_sends_its_traces_to_the_collector_of_the_settings(tmp_path: Path) -> None:
    with collecting() as (address, exports):
        settings = {
            "THREADLOOM_TELEMETRY__OTLP_ENDPOINT": address,
            "THREADLOOM_TELEMETRY__OTLP_HEADERS": '{"x-key": "of-the-collector"}',
            "THREADLOOM_TELEMETRY__PORT": str(port := free_port()),
        }
        with serving(tmp_path, settings) as base_url:
            with httpx2.Client(base_url=base_url, headers=bearing(KEY), timeout=20) as http:
                assistant = http.post("/assistants", json={"model": "gpt-4o"}).json()["id"]
                thread = {"messages": [{"role": "user", "content": scenario.QUESTION}]}
                body = {"assistant_id": assistant, "thread": thread, "stream": True}
                assert "thread.run.completed" in http.post("/threads/runs", json=body).text
            told = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'threadloom_runs_ended_total{status="completed"} 1.0' in told
    # What had not been sent yet is sent at the end.
    assert {(one.path, one.key) for one in exports} == {("/v1/traces", "of-the-collector")}
    sent = b"".join(one.body for one in exports)
    assert b"invoke_agent" in sent
    assert b"chat threadloom-embedded" in sent
    assert not [secret for secret in SECRETS if secret.encode() in sent]


# What is written about it


def test_the_reference_of_metrics_is_current() -> None:
    written = runpy.run_path(str(ROOT / "tools" / "metrics.py"))["page"]()
    assert (ROOT / "docs" / "reference" / "metrics.md").read_text() == written


def named(text: str) -> set[str]:
    """The metrics that a text speaks of, without the ends that histograms have."""
    found = set(re.findall(r"\b(?:threadloom|process)_[a-z_]+", text))
    return {re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name) for name in found}


def test_dashboard_and_alerts_name_metrics_that_exist() -> None:
    known = {one.name for one in documented()}
    dashboard = (ROOT / "deploy" / "grafana" / "threadloom.json").read_text()
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    asked = [
        target["expr"]
        for panel in json.loads(dashboard)["panels"]
        for target in panel.get("targets", [])
    ]
    alerts = [rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    assert len(asked) > 10
    assert len(alerts) > 5
    speaks_of = named("\n".join([*asked, *alerts]))
    assert {one for one in speaks_of if one.startswith("threadloom")} <= known
    # Everything that is counted can be seen.
    assert known <= named("\n".join(asked))


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    file = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    return {rule["alert"]: rule for group in file["groups"] for rule in group["rules"]}


def test_failed_code_alerts_where_a_runner_starts_the_sandboxes(
    rules: dict[str, dict[str, Any]],
) -> None:
    name = metrics.TOOL_CALLS.name
    calls = f'{name}_count{{tool="code_interpreter",outcome="failed"}}'
    assert calls in rules["ThreadloomSandboxesDoNotStart"]["expr"]


def test_somebody_elses_webhook_endpoint_wakes_nobody_up(rules: dict[str, dict[str, Any]]) -> None:
    queues = f"{metrics.QUEUE_OLDEST.name}|{metrics.QUEUE_DUE.name}"
    webhooks = WebhookDeliveryRow.__tablename__
    asked = {
        (rule["labels"]["severity"], selector)
        for rule in rules.values()
        for selector in re.findall(rf"(?:{queues})(?:\{{(.*?)\}})?", rule["expr"])
    }
    assert asked == {
        ("critical", f'queue!="{webhooks}"'),
        ("warning", f'queue!="{webhooks}"'),
        ("warning", f'queue="{webhooks}"'),
    }


SMALL = ("keys", "status", "init", "healthcheck", "limits")


def test_small_commands_do_not_load_any_of_it() -> None:
    imports = "; ".join(f"import threadloom.commands.{name}" for name in SMALL)
    loaded = subprocess.run(
        [sys.executable, "-c", f"import threadloom.cli, sys; {imports}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "threadloom.telemetry.logs" in loaded
    assert not [name for name in loaded if name.startswith(("opentelemetry", "prometheus"))]


def test_labels_are_few() -> None:
    labels = {label for one in documented() for label in one.labels}
    assert labels == {
        *("method", "route", "status", "queue", "outcome", "provider", "model", "code"),
        *("direction", "tool", "ending"),
    }
    assert metrics.OTHER == "other"
