"""`threadloom usage`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import select

from threadloom.api.usage import DAY, UsageQuery, used
from threadloom.commands.database import open_database
from threadloom.commands.projects import existing_project
from threadloom.config import Settings
from threadloom.db.rows import ApiKeyRow, ProjectRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.types.usage import GroupBy, UsagePage, UsageResult

MOST_DAYS = 3660


@dataclass(frozen=True)
class Period:
    """Whole days (UTC), both included; None: until today, and `days` before that."""

    since: date | None = None
    until: date | None = None
    days: int = 30


@dataclass(frozen=True)
class Usage:
    """What was used on each day, and the names of the projects and keys in it by their ids."""

    page: UsagePage
    names: Mapping[str, str]


async def usage(
    settings: Settings, period: Period, group_by: Sequence[GroupBy], project: str | None
) -> Usage:
    """Of one project, or of all. Raises StartError."""
    async with open_database(settings) as database:
        end = end_of(period, database.clock.now())
        start = start_of(period, end)
        if not start < end:
            raise StartError("The first day must not be after the last.")
        query = UsageQuery(start, end, MOST_DAYS, group_by, {})
        return await database.read(used_by, query, project)


def used_by(tx: Tx, query: UsageQuery, project: str | None) -> Usage:
    project_id = None if project is None else existing_project(tx, project)
    named = (select(kind.id, kind.name) for kind in (ProjectRow, ApiKeyRow))
    names = {id_: name for each in named for id_, name in tx.session.execute(each)}
    return Usage(used(tx, query, project_id=project_id), names)


def end_of(period: Period, now: float) -> int:
    """The first second after the period."""
    if period.until is None:
        return (int(now) // DAY + 1) * DAY
    return midnight(period.until) + DAY


def start_of(period: Period, end: int) -> int:
    if period.since is not None:
        return midnight(period.since)
    return max(0, end - period.days * DAY)


def midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def summed(page: UsagePage) -> list[UsageResult]:
    """The results of all days together, the largest first."""
    sums: dict[tuple[str | None, ...], UsageResult] = {}
    for one in (result for bucket in page.data for result in bucket.results):
        group = (one.project_id, one.api_key_id, one.model, one.assistant_id)
        sums[group] = added(sums[group], one) if group in sums else one
    return sorted(sums.values(), key=lambda one: one.input_tokens + one.output_tokens, reverse=True)


def added(one: UsageResult, other: UsageResult) -> UsageResult:
    return one.model_copy(
        update={
            "input_tokens": one.input_tokens + other.input_tokens,
            "output_tokens": one.output_tokens + other.output_tokens,
            "num_model_requests": one.num_model_requests + other.num_model_requests,
            "num_runs": one.num_runs + other.num_runs,
        }
    )
