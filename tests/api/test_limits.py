"""Limits by key and project: what is refused, with which words and headers, and what the limits are read from."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import RateLimitError
from sqlalchemy import func, select
from typer.testing import CliRunner

from tests.api.forms import PURPOSE, TYPE, chunks, field, file, form
from tests.api.wire import make_assistant, make_file, make_run, make_thread, post, send_file
from tests.faults.processes import until
from tests.support.server import Running, running_server
from threadloom.api.allowances import shown
from threadloom.api.keys import TRUSTED_FOR
from threadloom.api.rates import Rates
from threadloom.cli import cli
from threadloom.commands.limits import Subject, set_limits
from threadloom.db.database import Database
from threadloom.db.rows import ApiKeyRow, RateRow, RunRow, UsageRow
from threadloom.db.tx import Tx
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels, SequentialIds
from threadloom.usage import Sliding, exchange, forget

KEY_OF_TEST = f"key_{1:024d}"
DAY = 86_400
QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)


@asynccontextmanager
async def limited(
    url: str,
    limits: Mapping[str, int],
    model: ScriptedModel | None = None,
    clock: FrozenClock | None = None,
    **server: Any,
) -> AsyncGenerator[Running]:
    """A server with limits; with a model it drives runs."""
    async with running_server(
        url,
        ScriptedModels(model or ScriptedModel()),
        settings={"limits": limits, "server": {"port": 0} | server},
        clock=clock,
        ids=SequentialIds(),
        with_worker=model is not None,
    ) as running:
        running.check.expected_statuses = {429, 503}
        yield running


def message(response: httpx2.Response) -> str:
    return response.json()["error"]["message"]


async def test_requests_beyond_the_limit_of_a_minute_are_refused_as_openai_did(
    database_url: str, clock: FrozenClock
) -> None:
    async with (
        limited(database_url, {"requests_per_minute": 2}, clock=clock) as server,
        server.http() as raw,
    ):
        answers = [await raw.get("/assistants") for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        first, _, third = answers
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert first.headers["x-ratelimit-reset-requests"] == "1m40s"
        assert third.headers["retry-after"] == "70"
        assert third.json()["error"] == {
            "message": f"Rate limit reached for {KEY_OF_TEST} in organization threadloom on requests per min (RPM): "
            "Limit 2, Used 2, Requested 1. Please try again in 1m10s. "
            "Visit https://platform.openai.com/account/rate-limits to learn more.",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        clock.advance(69.9)
        assert (await raw.get("/assistants")).status_code == 429
        clock.advance(0.2)
        assert (await raw.get("/assistants")).status_code == 200


async def test_the_sdk_raises_its_own_error(database_url: str) -> None:
    async with (
        limited(database_url, {"requests_per_minute": 1}) as server,
        server.openai() as client,
    ):
        await client.beta.assistants.list()
        with pytest.raises(RateLimitError) as caught:
            await client.beta.assistants.list()
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.type == "requests"


async def test_another_key_has_its_own_minute(database_url: str) -> None:
    async with (
        limited(database_url, {"requests_per_minute": 1}) as server,
        server.http() as raw,
        server.http(await server.new_key("default")) as other,
    ):
        assert (await raw.get("/assistants")).status_code == 200
        assert (await other.get("/assistants")).status_code == 200
        assert (await other.get("/assistants")).status_code == 429


async def test_without_limits_nothing_is_said(still: Running, raw: httpx2.AsyncClient) -> None:
    await make_run(raw)
    answer = await raw.get("/assistants")
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert await still.database.read(count_of_rates) == 0


def count_of_rates(tx: Tx) -> int:
    return tx.session.scalar(select(func.count()).select_from(RateRow)) or 0


async def test_health_is_not_limited(database_url: str) -> None:
    async with limited(database_url, {"requests_per_minute": 1}) as server:
        url = f"http://127.0.0.1:{server.port}/healthz"
        async with httpx2.AsyncClient() as anyone:
            assert {(await anyone.get(url)).status_code for _ in range(3)} == {200}


async def test_a_key_s_limit_goes_before_the_project_s_and_that_before_the_server_s(
    database_url: str, clock: FrozenClock
) -> None:
    async with (
        limited(database_url, {"requests_per_minute": 100}, clock=clock) as server,
        server.http() as raw,
    ):
        project = Subject(project="default")
        await server.database.write(set_limits, project, {"requests_per_minute": 50})
        clock.advance(TRUSTED_FOR)
        headers = (await raw.get("/assistants")).headers
        assert headers["x-ratelimit-limit-requests"] == "50"
        key = Subject(key_id=KEY_OF_TEST)
        await server.database.write(set_limits, key, {"requests_per_minute": 20})
        clock.advance(TRUSTED_FOR)
        headers = (await raw.get("/assistants")).headers
        assert headers["x-ratelimit-limit-requests"] == "20"
        await server.database.write(set_limits, key, {"requests_per_minute": 0})
        clock.advance(TRUSTED_FOR)
        headers = (await raw.get("/assistants")).headers
        assert headers["x-ratelimit-limit-requests"] == "50"


async def test_processes_learn_of_each_other_s_counts(database_url: str) -> None:
    clock = FrozenClock()
    databases = [Database(database_url, clock=clock, ids=SequentialIds()) for _ in range(2)]
    try:
        first, second = (Rates(database) for database in databases)
        for _ in range(5):
            first.count("key_1")
        await until(lambda: counted(databases[0], 5), "the first has told its counts")
        second.count("key_1")
        await until(lambda: second.standing("key_1").current == 6, "the second knows them")
        assert second.standing("key_2").current == 0
    finally:
        for database in databases:
            await database.close()


async def counted(database: Database, number: int) -> bool:
    return (
        await database.read(lambda tx: tx.session.scalar(select(func.sum(RateRow.used)))) == number
    )


async def test_counts_of_minutes_that_are_over_are_forgotten(
    still: Running, clock: FrozenClock
) -> None:
    minute = int(clock.now() // 60)
    counts = {("requests:key_1", minute): 3}
    await still.database.write(exchange, "a process", counts)
    others = await still.database.write(exchange, "another", {})
    assert others == counts
    clock.advance(180)
    assert await still.database.write(exchange, "another", {}) == {}
    await still.database.write(forget)
    assert await still.database.read(count_of_rates) == 0


async def test_tokens_beyond_the_limit_of_a_minute_keep_runs_from_being_created(
    database_url: str, model: ScriptedModel
) -> None:
    model.says("Hello")
    async with (
        limited(database_url, {"tokens_per_minute": 15}, model) as server,
        server.openai() as client,
        server.http() as raw,
    ):
        assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Be brief.")
        run = await client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id, poll_interval_ms=20
        )
        assert run.status == "completed"
        body = {"assistant_id": assistant.id}
        refused = await raw.post("/threads/runs", json=body)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "tokens"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "on tokens per min (TPM): Limit 15, Used 15, Requested 1." in message(refused)
        assert refused.headers["x-ratelimit-limit-tokens"] == "15"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        assert (await raw.get(f"/threads/{run.thread_id}/runs")).status_code == 200


async def test_the_monthly_budget_is_openai_s_quota(
    database_url: str, model: ScriptedModel, clock: FrozenClock
) -> None:
    model.says("Hello")
    model.says("Hello again")
    async with (
        limited(database_url, {"tokens_per_month": 15}, model, clock) as server,
        server.http() as raw,
    ):
        run = await make_run(raw)
        await raw.get(f"/threads/{run['thread_id']}/runs/{run['id']}/events")
        body = {"assistant_id": run["assistant_id"]}
        refused = await raw.post("/threads/runs", json=body)
        assert refused.status_code == 429
        assert refused.json()["error"] == {
            "message": QUOTA,
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }
        assert refused.headers["x-should-retry"] == "false"
        clock.advance(float(refused.headers["retry-after"]))
        assert (await raw.post("/threads/runs", json=body)).status_code == 200


async def test_what_a_run_spent_is_written_down_with_its_end(
    database_url: str, model: ScriptedModel
) -> None:
    for _ in range(2):
        model.says("Hello")
    async with limited(database_url, {}, model) as server, server.http() as raw:
        for _ in range(2):
            run = await make_run(raw)
            await raw.get(f"/threads/{run['thread_id']}/runs/{run['id']}/events")
        rows = await server.database.read(used_by_assistant)
        assert [one[1:] for one in rows] == [(KEY_OF_TEST, "gpt-4o", 1, 10, 5)] * 2
        assert await server.database.read(
            lambda tx: set(tx.session.scalars(select(RunRow.key_id)))
        ) == {KEY_OF_TEST}


def used_by_assistant(tx: Tx) -> list[Any]:
    columns = (UsageRow.assistant_id, UsageRow.key_id, UsageRow.model)
    sums = (UsageRow.runs, UsageRow.prompt_tokens, UsageRow.completion_tokens)
    found = select(*columns, *(func.sum(one) for one in sums)).group_by(*columns)
    return [tuple(row) for row in tx.session.execute(found)]


async def test_runs_of_a_project_at_once_are_limited(database_url: str) -> None:
    async with (
        limited(database_url, {"concurrent_runs": 1}) as server,
        server.http() as raw,
        server.http(await server.new_key("other")) as other,
    ):
        run = await make_run(raw)
        body = {"assistant_id": run["assistant_id"]}
        refused = await raw.post("/threads/runs", json=body)
        assert refused.status_code == 429
        assert "on concurrent runs: Limit 1, Used 1, Requested 1." in message(refused)
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == (
            "1",
            "1000",
        )
        await make_run(other)


async def test_a_run_that_was_created_is_not_refused_when_it_is_asked_for_again(
    database_url: str,
) -> None:
    async with limited(database_url, {"concurrent_runs": 1}) as server, server.http() as raw:
        assistant = (await raw.post("/assistants", json={"model": "gpt-4o"})).json()
        thread = {"messages": [{"role": "user", "content": "Hello"}]}
        body = {"assistant_id": assistant["id"], "thread": thread}
        key = {"Idempotency-Key": "once"}
        first, again = [await raw.post("/threads/runs", json=body, headers=key) for _ in range(2)]
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.json() == first.json()
        assert (await raw.post("/threads/runs", json=body)).status_code == 429


async def test_a_key_may_have_a_smaller_share_of_its_project(database_url: str) -> None:
    async with limited(database_url, {}) as server:
        key = await server.new_key("default")
        key_id = await server.database.read(
            lambda tx: tx.session.scalars(
                select(ApiKeyRow.id).order_by(ApiKeyRow.seq.desc()).limit(1)
            ).one()
        )
        await server.database.write(set_limits, Subject(key_id=key_id), {"concurrent_runs": 1})
        async with server.http() as raw, server.http(key) as small:
            run = await make_run(raw)
            body = {"assistant_id": run["assistant_id"]}
            await make_run(small)
            refused = await small.post("/threads/runs", json=body)
            assert f"Rate limit reached for {key_id} " in message(refused)
            assert (await raw.post("/threads/runs", json=body)).status_code == 200


async def test_files_beyond_a_project_s_storage_are_refused(database_url: str) -> None:
    async with limited(database_url, {"storage": 2000}) as server, server.http() as raw:
        first = await make_file(raw, b"x" * 1200)
        refused = await send_file(raw, b"x" * 1200)
        assert refused.status_code == 400
        assert refused.json()["error"] == {
            "message": "You have exceeded your file storage quota. Projects are limited to 2000 bytes of files. "
            "Please delete old files or attempt with a smaller file size.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        await raw.delete(f"/files/{first['id']}")
        await make_file(raw, b"x" * 1200)


async def test_a_body_that_hides_its_length_is_refused_where_the_storage_ends(
    database_url: str,
) -> None:
    async with limited(database_url, {"storage": 100_000}) as server, server.http() as raw:
        body = form(field("purpose", "assistants"), file(b"x" * 200_000))
        refused = await raw.post("/files", content=chunks(body), headers=TYPE)
        assert refused.status_code == 400
        assert "storage quota" in message(refused)
        assert (await raw.get("/files")).json()["data"] == []


async def test_files_that_come_at_once_do_not_exceed_the_storage_together(
    database_url: str,
) -> None:
    async with limited(database_url, {"storage": 5000}) as server, server.http() as raw:
        answers = await asyncio.gather(*(send_file(raw, b"x" * 2000) for _ in range(6)))
        stored = [one for one in answers if one.status_code == 200]
        assert 1 <= len(stored) <= 2


async def test_bodies_that_hide_their_length_do_not_exceed_it_together_either(
    database_url: str,
) -> None:
    async with limited(database_url, {"storage": 100_000}) as server, server.http() as raw:
        body = form(PURPOSE, file(b"x" * 60_000))
        halves = Halves(body, uploads=3)
        answers = await asyncio.gather(
            *(raw.post("/files", content=halves.sent(), headers=TYPE) for _ in range(3))
        )
        assert [one.status_code for one in answers].count(200) <= 1
        again = await raw.post(
            "/files", content=chunks(form(PURPOSE, file(b"x" * 30_000))), headers=TYPE
        )
        assert again.status_code == 200


class Halves:
    """A body that several clients send at once: nobody sends the second half before all sent the first."""

    def __init__(self, body: bytes, *, uploads: int) -> None:
        self._body = body
        self._all_there = asyncio.Barrier(uploads)

    async def sent(self) -> AsyncIterator[bytes]:
        middle = len(self._body) // 2
        yield self._body[:middle]
        await self._all_there.wait()
        yield self._body[middle:]


async def test_parts_of_uploads_count_too(database_url: str) -> None:
    async with limited(database_url, {"storage": 2000}) as server, server.http() as raw:
        upload = await post(
            raw,
            "/uploads",
            {"filename": "a", "purpose": "assistants", "bytes": 1500, "mime_type": "text/plain"},
        )
        parts = f"/uploads/{upload['id']}/parts"
        assert (await raw.post(parts, files={"data": b"x" * 1500})).status_code == 200
        assert (await raw.post(parts, files={"data": b"x" * 1500})).status_code == 400


async def test_runs_are_refused_while_too_many_wait(database_url: str) -> None:
    async with limited(database_url, {}, max_queued_runs=2) as server, server.http() as raw:
        assistant = await make_assistant(raw, instructions="Be brief.")
        body = {"assistant_id": assistant["id"]}
        answers = [await raw.post("/threads/runs", json=body) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 503]
        assert answers[2].headers["retry-after"] == "1"
        assert (await make_thread(raw))["object"] == "thread"


def test_limits_are_set_by_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, "--data-dir", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.output

    run("keys", "create", "--project", "small", "--requests-per-minute", "7")
    assert "none" in run("limits", "show", "--project", "small")
    run("limits", "set", "--project", "small", "--storage", "12345", "--tokens-per-month", "99")
    printed = run("limits", "show", "--project", "small")
    assert "12345" in printed
    assert "99" in printed
    told = {
        one["limit"]: one
        for one in json.loads(run("limits", "show", "--project", "small", "--json"))
    }
    assert told["storage"] == {"limit": "storage", "value": 12345, "used": 0}
    assert told["concurrent_runs"]["value"] is None
    run("limits", "set", "--project", "small", "--storage", "0")
    assert "12345" not in run("limits", "show", "--project", "small")


def test_storage_is_no_limit_of_a_key(tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path)]
    CliRunner().invoke(cli, ["keys", "create", *data])
    arguments = ["limits", "set", "--key", "key_unknown", "--storage", "5", *data]
    refused = CliRunner().invoke(cli, arguments)
    assert "There is no key with id key_unknown." in str(refused.exception)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.12, "120ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (61.25, "1m1.25s"),
    ],
)
def test_durations_are_written_as_openai_did(seconds: float, text: str) -> None:
    assert shown(seconds) == text


@given(
    st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.floats(0, 59.9, allow_nan=False)
)
def test_after_the_wait_there_is_room(
    previous: int, current: int, limit: int, passed: float
) -> None:
    before = Sliding(previous, current, 600 + passed)
    wait = before.wait(limit)
    later = 600 + passed + wait + 0.001
    counts = (previous, current) if later < 660 else (current, 0) if later < 720 else (0, 0)
    assert Sliding(*counts, later).wait(limit) == 0
    if wait > 0.01:
        sooner = 600 + passed + wait - 0.01
        counts = (previous, current) if sooner < 660 else (current, 0)
        assert Sliding(*counts, sooner).wait(limit) > 0
