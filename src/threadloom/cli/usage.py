"""`threadloom usage`."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table, when

if TYPE_CHECKING:
    from threadloom.types.usage import GroupBy, UsageResult


class By(StrEnum):
    """What is told apart: Typer takes no list of literals."""

    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    ASSISTANT = "assistant"


GROUPS: "Mapping[By, GroupBy]" = {
    By.PROJECT: "project_id",
    By.KEY: "api_key_id",
    By.MODEL: "model",
    By.ASSISTANT: "assistant_id",
}
COUNTS = ("runs", "requests", "input tokens", "output tokens")

usage = typer.Typer()


@usage.command("usage")
def show_usage(
    by: Annotated[
        list[By] | None, typer.Option(help="What is told apart; project and model if none.")
    ] = None,
    daily: Annotated[bool, typer.Option("--daily", help="Each day for itself.")] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="DAY", help="The first day (UTC), such as 2026-11-01."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="The last day, if not today."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="So many days, without --since.")] = 30,
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what runs used, by project, key, model or assistant; `--json` has the form of the API, day by day."""
    from threadloom.commands import usage as commands

    chosen = list(dict.fromkeys(by or (By.PROJECT, By.MODEL)))
    period = commands.Period(since and since.date(), until and until.date(), days)
    groups: list[GroupBy] = [GROUPS[one] for one in chosen]
    found = start(commands.usage(settings_of(data_dir, config), period, groups, project))
    if as_json:
        show_json(found.page)
    elif daily:
        rows = [
            [str(when(bucket.start_time))[:10], *cells(result, groups, found.names)]
            for bucket in found.page.data
            for result in bucket.results
        ]
        show_table(["day", *chosen, *COUNTS], rows)
    else:
        results = commands.summed(found.page)
        rows = [cells(result, groups, found.names) for result in results]
        show_table([*chosen, *COUNTS], rows)


def cells(result: "UsageResult", groups: "list[GroupBy]", names: Mapping[str, str]) -> list[object]:
    values = [getattr(result, group) for group in groups]
    named = [f"{names[one]} ({one})" if one in names else one for one in values]
    counts = (result.num_runs, result.num_model_requests)
    return [*named, *counts, result.input_tokens, result.output_tokens]
