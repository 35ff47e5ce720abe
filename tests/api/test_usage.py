"""`GET /v1/organization/usage/completions`: what was used, and who may see it."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from openai.types.admin.organization import UsageCompletionsResponse
from sqlalchemy import select

from tests.api.wire import Json, get, make_run, post, run_to_end
from tests.keeping.world import FUNCTION, call, reaches
from tests.support.server import Running, running_server
from threadloom.api.keys import ADMIN
from threadloom.db.rows import ApiKeyRow, ProjectRow, UsageRow
from threadloom.db.tx import Tx
from threadloom.testing import ScriptedModel, ScriptedModels

PATH = "/organization/usage/completions"
DAY = 86_400
FIRST = 1_793_491_200
"""2026-11-01, as Unix seconds."""
ADMIN_KEY = "sk-admin"


@pytest.fixture
async def server(database_url: str, model: ScriptedModel) -> AsyncGenerator[Running]:
    settings = {"auth": {"admin_key": ADMIN_KEY}}
    async with running_server(database_url, ScriptedModels(model), settings=settings) as running:
        yield running


def usage_row(project_id: str, day: int = 1, **fields: Any) -> UsageRow:
    """Of the nth day of November."""
    defaults = {"key_id": "key_1", "assistant_id": "asst_1", "model": "gpt-4o", "part": 1}
    counts = {"runs": 1, "model_requests": 2, "prompt_tokens": 100, "completion_tokens": 10}
    return UsageRow(project_id=project_id, day=f"2026-11-{day:02}", **defaults | counts | fields)


async def write_usage(server: Running, *rows: UsageRow) -> None:
    await server.database.write(lambda tx: tx.session.add_all(rows))


async def project_of(server: Running, name: str) -> str:
    def find(tx: Tx) -> str:
        return tx.session.scalars(select(ProjectRow.id).where(ProjectRow.name == name)).one()

    return await server.database.read(find)


async def results(http: httpx2.AsyncClient, **query: Any) -> list[Json]:
    """Of the days that have some."""
    page = await get(http, PATH, **{"start_time": FIRST, "limit": 31} | query)
    return [result for bucket in page["data"] for result in bucket["results"]]


async def test_a_run_is_counted_on_its_day(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    today = int(server.database.clock.now()) // DAY * DAY
    groups = ["project_id", "api_key_id", "model", "assistant_id"]
    page = await get(http, PATH, start_time=today + 1, group_by=groups)
    (bucket,) = page["data"]
    assert (bucket["start_time"], bucket["end_time"]) == (today, today + DAY)
    (key,) = await server.database.read(lambda tx: tx.session.scalars(select(ApiKeyRow.id)).all())
    assert bucket["results"] == [
        {
            "object": "organization.usage.completions.result",
            "input_tokens": 10,
            "output_tokens": 5,
            "num_model_requests": 1,
            "num_runs": 1,
            "project_id": await project_of(server, "default"),
            "api_key_id": key,
            "model": "gpt-4o",
            "assistant_id": run["assistant_id"],
            "user_id": None,
            "batch": None,
        }
    ]
    assert UsageCompletionsResponse.model_validate(page, strict=True).has_more is False


async def test_each_answer_of_a_model_is_a_request(
    server: Running, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.calls(call("weather"))
    model.says("Rain.")
    run = await reaches(http, await make_run(http, tools=[FUNCTION]), "requires_action")
    (asked,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": asked["id"], "output": "Rain."}]}
    await post(http, f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs", outputs)
    await reaches(http, run, "completed")
    (counted,) = await results(http, start_time=int(server.database.clock.now()) - DAY)
    assert (counted["num_model_requests"], counted["num_runs"]) == (2, 1)


async def test_the_sdk_reads_it(server: Running) -> None:
    await write_usage(server, usage_row(await project_of(server, "default")))
    async with server.openai() as client:
        client.admin_api_key = ADMIN_KEY
        page = await client.admin.organization.usage.completions(
            start_time=FIRST, end_time=FIRST + DAY, group_by=["model"], models=["gpt-4o"]
        )
    (result,) = page.data[0].results
    assert result.object == "organization.usage.completions.result"
    assert (result.model, result.input_tokens, result.project_id) == ("gpt-4o", 100, None)


async def test_usage_is_grouped_and_filtered(server: Running, http: httpx2.AsyncClient) -> None:
    project = await project_of(server, "default")
    await write_usage(
        server,
        usage_row(project),
        usage_row(project, part=2),
        usage_row(project, model="small", key_id=""),
        usage_row(project, day=2, assistant_id="asst_2"),
    )
    (first, second) = await results(http)
    assert (first["input_tokens"], first["output_tokens"], first["num_runs"]) == (300, 30, 3)  # fmt: skip
    assert (second["input_tokens"], second["model"], second["api_key_id"]) == (100, None, None)
    by_model = [
        (one["model"], one["num_model_requests"]) for one in await results(http, group_by="model")
    ]
    assert by_model == [("gpt-4o", 4), ("small", 2), ("gpt-4o", 2)]
    by_key = {(one["api_key_id"], one["input_tokens"]) for one in await results(http, group_by="api_key_id")}  # fmt: skip
    assert by_key == {(None, 100), ("key_1", 200), ("key_1", 100)}
    for name, value, runs in (
        ("models", "small", 1),
        ("api_key_ids", "key_1", 3),
        ("assistant_ids", "asst_2", 1),
        ("project_ids", project, 4),
        ("project_ids", "proj_1", 0),
    ):
        found = await results(http, **{name: value})
        assert sum(one["num_runs"] for one in found) == runs, name
        assert await results(http, **{f"{name}[]": value}) == found


async def test_days_come_in_pages(server: Running, http: httpx2.AsyncClient) -> None:
    project = await project_of(server, "default")
    await write_usage(server, *(usage_row(project, day) for day in (1, 3, 9, 10)))
    query: dict[str, Any] = {"start_time": FIRST + 3600, "end_time": FIRST + 9 * DAY}
    first = await get(http, PATH, **query)
    assert [one["start_time"] for one in first["data"]] == [FIRST + day * DAY for day in range(7)]
    assert [len(one["results"]) for one in first["data"]] == [1, 0, 1, 0, 0, 0, 0]
    assert first["has_more"] is True
    rest = await get(http, PATH, **query, page=first["next_page"])
    assert [len(one["results"]) for one in rest["data"]] == [0, 1]
    assert (rest["has_more"], rest["next_page"]) == (False, None)
    beyond = await get(http, PATH, **query, page=str(FIRST + 20 * DAY))
    assert (beyond["data"], beyond["has_more"]) == ([], False)


async def test_without_an_end_it_is_today(server: Running, http: httpx2.AsyncClient) -> None:
    today = int(server.database.clock.now()) // DAY * DAY
    page = await get(http, PATH, start_time=today - DAY)
    assert [one["start_time"] for one in page["data"]] == [today - DAY, today]


async def test_a_projects_key_sees_its_project_and_the_admin_key_all(
    server: Running, http: httpx2.AsyncClient
) -> None:
    other_key = await server.new_key("other")
    mine, theirs = await project_of(server, "default"), await project_of(server, "other")
    await write_usage(
        server, usage_row(mine, model="mine"), usage_row(theirs, model="theirs", key_id=ADMIN)
    )
    every: dict[str, Any] = {"group_by": ["project_id", "model"], "project_ids": [mine, theirs]}
    async with server.http(other_key) as other, server.http(ADMIN_KEY) as admin:
        for key, seen in ((http, {mine}), (other, {theirs}), (admin, {mine, theirs})):
            assert {one["project_id"] for one in await results(key, **every)} == seen
            for narrow in ({"group_by": "model"}, {}):
                counted = sum(one["num_runs"] for one in await results(key, **narrow))
                assert counted == len(seen)
        assert await results(other, project_ids=mine) == []
        assert await results(other, models="mine") == []


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "Missing required parameter: 'start_time'."),
    ({"start_time": 1, "bucket_width": "1h"}, "'1h'"),
    ({"start_time": 1, "group_by": "user_id"}, "'user_id'"),
    ({"start_time": 1, "limit": 32}, "'limit'"),
    ({"start_time": 1, "page": "x"}, "'page'"),
    ({"start_time": 5, "end_time": 5}, "'end_time' must be after 'start_time'."),
)


async def test_what_cannot_be_told_is_refused(http: httpx2.AsyncClient) -> None:
    for query, problem in REFUSED:
        refused = await http.get(PATH, params=query)
        assert refused.status_code == 400, query
        assert problem in refused.json()["error"]["message"]
