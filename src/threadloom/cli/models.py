"""`threadloom models`."""

from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table

models = typer.Typer(no_args_is_help=True, help="Models and who answers for their names.")


@models.command("list")
def list_models(
    data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List every name and alias with the provider and the model that answer for it."""
    from threadloom.commands import models as commands

    found = start(commands.names(settings_of(data_dir, config)))
    if as_json:
        show_json(found)
        return
    columns = ["name", "kind", "model", "provider", "context window", "problem"]
    rows = [
        (one.name, one.kind, one.model, one.provider, one.context_window, one.problem)
        for one in found
    ]
    show_table(columns, rows)


@models.command("test")
def try_models(
    name: Annotated[
        list[str] | None, typer.Argument(help="Which; those in the settings if none.")
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask models two short questions: do they answer, in pieces, and call a function? Ends with 1 when one does not."""
    from threadloom.commands import models as commands

    found = start(commands.test(settings_of(data_dir, config), name or ()))
    if as_json:
        show_json(found)
    else:
        columns = ["name", "model", "provider", "answers", "streams", "calls functions", "seconds", "problem"]  # fmt: skip
        rows = [
            (one.name, one.model, one.provider, one.answers, one.streams, one.calls_functions, one.seconds, one.problem)
            for one in found
        ]  # fmt: skip
        show_table(columns, rows)
    if not all(one.works for one in found):
        raise typer.Exit(1)
