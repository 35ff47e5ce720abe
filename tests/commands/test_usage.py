"""`threadloom usage`."""

import httpx2
import pytest

from tests.api.test_usage import FIRST, project_of, usage_row, write_usage
from tests.api.wire import get, run_to_end
from tests.commands.running import Commands
from tests.support.server import Running
from threadloom.testing import ScriptedModel

NOVEMBER = ("--since", "2026-11-01", "--until", "2026-11-05")


@pytest.fixture
async def used(server: Running) -> None:
    """Two projects in November."""
    await server.new_key("team")
    mine, theirs = await project_of(server, "default"), await project_of(server, "team")
    await write_usage(
        server,
        usage_row(mine),
        usage_row(mine, day=5, model="small"),
        usage_row(mine, day=6),
        usage_row(theirs, day=2, prompt_tokens=400),
        usage_row(theirs, day=3, prompt_tokens=500),
    )


@pytest.mark.usefixtures("used")
async def test_usage_is_summed_by_what_is_asked_for(threadloom: Commands) -> None:
    head, *lines = (await threadloom.run("usage", *NOVEMBER)).splitlines()
    assert head.split() == [
        "project",
        "model",
        "runs",
        "requests",
        "input",
        "tokens",
        "output",
        "tokens",
    ]
    cells = [line.split() for line in lines]
    assert [(row[0], *row[2:]) for row in cells] == [
        ("team", "gpt-4o", "2", "4", "900", "20"),
        ("default", "gpt-4o", "1", "2", "100", "10"),
        ("default", "small", "1", "2", "100", "10"),
    ]
    by_model = (await threadloom.run("usage", *NOVEMBER, "--by", "model")).splitlines()
    assert [line.split() for line in by_model[1:]] == [
        ["gpt-4o", "3", "6", "1000", "30"],
        ["small", "1", "2", "100", "10"],
    ]


@pytest.mark.usefixtures("used")
async def test_usage_is_told_day_by_day_and_for_one_project(threadloom: Commands) -> None:
    own = ("--project", "team", "--by", "assistant")
    daily = (await threadloom.run("usage", *NOVEMBER, *own, "--daily")).splitlines()
    assert [line.split() for line in daily[1:]] == [
        ["2026-11-02", "asst_1", "1", "2", "400", "10"],
        ["2026-11-03", "asst_1", "1", "2", "500", "10"],
    ]


@pytest.mark.usefixtures("used")
async def test_json_is_what_the_api_sends(threadloom: Commands, http: httpx2.AsyncClient) -> None:
    options = ("--project", "default", "--by", "model", "--by", "key")
    printed = await threadloom.json("usage", *NOVEMBER, *options)
    query = {"start_time": FIRST, "end_time": FIRST + 5 * 86_400, "group_by": ["model", "api_key_id"]}  # fmt: skip
    assert printed == await get(http, "/organization/usage/completions", **query)


async def test_the_newest_days_are_told_if_none_are_named(
    threadloom: Commands, http: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    model.says("Hello")
    run = await run_to_end(http)
    printed = await threadloom.run("usage", "--days", "2", "--by", "key", "--by", "assistant")
    (_, line) = printed.splitlines()
    assert "(key_" in line
    assert line.split()[-5:] == [run["assistant_id"], "1", "1", "10", "5"]


async def test_what_cannot_be_told_is_refused(alone: Commands) -> None:
    days = ("--since", "2026-11-02", "--until", "2026-11-01")
    assert await alone.refused("usage", *days) == "The first day must not be after the last."
    assert await alone.refused("usage", "--project", "x") == "There is no project x."
