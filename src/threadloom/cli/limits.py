"""`threadloom limits`."""

from typing import TYPE_CHECKING, Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, Limit, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table

if TYPE_CHECKING:
    from threadloom.commands.limits import Subject

Project = Annotated[str | None, typer.Option(help="A project's name.")]
Key = Annotated[str | None, typer.Option(help="A key's id, from `threadloom keys list`.")]

limits = typer.Typer(no_args_is_help=True, help="What projects and keys may use.")


@limits.command("show")
def show_limits(
    project: Project = None,
    key: Key = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a project's or key's limits, and what counts against them."""
    from threadloom.commands import limits as limit_commands

    subject = subject_of(project, key)
    found = start(limit_commands.show(settings_of(data_dir, config), subject))
    if as_json:
        show_json(found)
        return
    unset = "the project's" if key else "none"
    rows = [(one.limit, unset if one.value is None else one.value, one.used) for one in found]
    show_table(["limit", "value", "used"], rows)


@limits.command("set")
def set_limits(
    project: Project = None,
    key: Key = None,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    concurrent_runs: Limit = None,
    storage: Limit = None,
    tokens_per_month: Limit = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Change limits of a project or key, within a second in every process."""
    from threadloom.commands import limits as limit_commands

    given = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_runs": concurrent_runs,
        "storage": storage,
        "tokens_per_month": tokens_per_month,
    }
    subject = subject_of(project, key)
    start(limit_commands.override(settings_of(data_dir, config), subject, given))


def subject_of(project: str | None, key: str | None) -> "Subject":
    from threadloom.commands import limits as limit_commands

    if (project is None) == (key is None):
        raise typer.BadParameter("Give either a project or a key.")
    return limit_commands.Subject(project, key)
