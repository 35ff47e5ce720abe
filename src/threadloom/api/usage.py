"""What was used, by day: as OpenAI's usage API tells it, to a project's key for its project only."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import ColumnElement, Select, func, select

from threadloom.api.context import Server
from threadloom.api.keys import ADMIN
from threadloom.db.rows import UsageRow
from threadloom.db.tx import Tx
from threadloom.errors import InvalidRequest
from threadloom.types.usage import GroupBy, UsageBucket, UsagePage, UsageResult
from threadloom.usage import WITHOUT_KEY, day_of

router = APIRouter(prefix="/v1/organization/usage", tags=["Threadloom's own"])
DAY = 86_400
LATEST = 4_102_444_800
"""The year 2100."""
COLUMNS: dict[GroupBy, ColumnElement[str]] = {
    "project_id": UsageRow.project_id.expression,
    "api_key_id": UsageRow.key_id.expression,
    "model": UsageRow.model.expression,
    "assistant_id": UsageRow.assistant_id.expression,
}
Only = dict[GroupBy, Sequence[str]]
"""The values that count; all of them where there is none."""


@dataclass(frozen=True)
class UsageQuery:
    """Which days (from `start` on and before `end`, Unix seconds), at most `limit` of them, of whom, and grouped by what."""

    start: int
    end: int
    limit: int
    group_by: Sequence[GroupBy]
    only: Only


def listed(name: str) -> Callable[..., Coroutine[Any, Any, Sequence[str]]]:
    """A parameter that may come several times, also as SDKs write it: with brackets."""

    async def read(
        plain: Annotated[list[str] | None, Query(alias=name)] = None,
        brackets: Annotated[list[str] | None, Query(alias=f"{name}[]")] = None,
    ) -> Sequence[str]:
        return (*(plain or ()), *(brackets or ()))

    return read


async def grouped(
    group_by: Annotated[list[GroupBy] | None, Query()] = None,
    brackets: Annotated[list[GroupBy] | None, Query(alias="group_by[]")] = None,
) -> Sequence[GroupBy]:
    return list(dict.fromkeys((*(group_by or ()), *(brackets or ()))))


async def filters(
    project_ids: Annotated[Sequence[str], Depends(listed("project_ids"))],
    api_key_ids: Annotated[Sequence[str], Depends(listed("api_key_ids"))],
    models: Annotated[Sequence[str], Depends(listed("models"))],
    assistant_ids: Annotated[Sequence[str], Depends(listed("assistant_ids"))],
) -> Only:
    return {
        "project_id": project_ids,
        "api_key_id": api_key_ids,
        "model": models,
        "assistant_id": assistant_ids,
    }


@router.get("/completions")
async def retrieve_usage(
    request: Request,
    server: Server,
    group_by: Annotated[Sequence[GroupBy], Depends(grouped)],
    only: Annotated[Only, Depends(filters)],
    start_time: Annotated[int, Query(ge=0, le=LATEST)],
    end_time: Annotated[int | None, Query(ge=0, le=LATEST)] = None,
    limit: Annotated[int, Query(ge=1, le=31)] = 7,
    page: Annotated[str | None, Query(pattern="^[0-9]{1,10}$")] = None,
    bucket_width: Literal["1d"] = "1d",
) -> UsagePage:
    """Tokens and runs by day. The admin key sees all projects, any other key its own."""
    del bucket_width  # what is written down is not finer
    if end_time is not None and end_time <= start_time:
        raise InvalidRequest(
            "'end_time' must be after 'start_time'.", param="end_time", code="invalid_value"
        )
    start = start_time if page is None else max(start_time, int(page))
    end = end_time or int(server.database.clock.now()) + 1
    own = None if request.scope["key_id"] == ADMIN else request.scope["project_id"]
    query = UsageQuery(start, end, limit, group_by, only)
    return await server.database.read(used, query, project_id=own)


def used(tx: Tx, query: UsageQuery, *, project_id: str | None) -> UsagePage:
    """What one project used, or all of them."""
    first, end = query.start // DAY, -(-query.end // DAY)
    days = range(first, min(end, first + query.limit))
    if not days:
        return UsagePage(data=[], has_more=False, next_page=None)
    found = rows_of(tx, statement(query, days, project_id), query.group_by)
    more = days[-1] + 1 < end
    return UsagePage(
        data=[
            UsageBucket(
                start_time=day * DAY,
                end_time=(day + 1) * DAY,
                results=found.get(day_of(day * DAY), []),
            )
            for day in days
        ],
        has_more=more,
        next_page=str((days[-1] + 1) * DAY) if more else None,
    )


def statement(query: UsageQuery, days: range, project_id: str | None) -> Select[*tuple[Any, ...]]:
    columns = [COLUMNS[name] for name in query.group_by]
    asked = (
        select(
            UsageRow.day,
            func.sum(UsageRow.prompt_tokens),
            func.sum(UsageRow.completion_tokens),
            func.sum(UsageRow.model_requests),
            func.sum(UsageRow.runs),
            *columns,
        )
        .where(UsageRow.day >= day_of(days[0] * DAY), UsageRow.day <= day_of(days[-1] * DAY))
        .where(*(COLUMNS[name].in_(values) for name, values in query.only.items() if values))
        .group_by(UsageRow.day, *columns)
        .order_by(UsageRow.day, *columns)
    )
    return asked if project_id is None else asked.where(UsageRow.project_id == project_id)


def rows_of(
    tx: Tx, asked: Select[*tuple[Any, ...]], group_by: Sequence[GroupBy]
) -> dict[str, list[UsageResult]]:
    """The results of each day that has some."""
    rows = tx.session.execute(asked).all()
    return {
        day: [result(row, group_by) for row in of_day]
        for day, of_day in groupby(rows, lambda row: row[0])
    }


def result(row: Sequence[Any], group_by: Sequence[GroupBy]) -> UsageResult:
    _, prompt, completion, requests, runs, *values = row
    groups = {
        name: None if value == WITHOUT_KEY else value
        for name, value in zip(group_by, values, strict=True)
    }
    counts = {
        "input_tokens": int(prompt),
        "output_tokens": int(completion),
        "num_model_requests": int(requests),
        "num_runs": int(runs),
    }
    return UsageResult.model_validate(counts | groups)
