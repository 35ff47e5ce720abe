"""`threadloom keys`."""

from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, Limit, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table

keys = typer.Typer(no_args_is_help=True, help="API keys.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    project: Annotated[str, typer.Option(help="Made if there is none.")] = "default",
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    concurrent_runs: Limit = None,
    tokens_per_month: Limit = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; it is never shown again."""
    from threadloom.commands import keys as key_commands
    from threadloom.commands import limits as limit_commands

    settings = settings_of(data_dir, config)
    chosen = limit_commands.limits_of(
        {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "concurrent_runs": concurrent_runs,
            "tokens_per_month": tokens_per_month,
        }
    )
    made = start(key_commands.create(settings, project=project, name=name, limits=chosen))
    if as_json:
        show_json({"key": made})
    else:
        typer.echo(made)


@keys.command("list")
def list_keys(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List all keys."""
    from threadloom.commands import keys as key_commands

    found = start(key_commands.show(settings_of(data_dir, config)))
    if as_json:
        show_json(found)
        return
    rows = [
        (one.id, one.project, one.name, one.key, "revoked" if one.revoked_at else "works")
        for one in found
    ]
    show_table(["id", "project", "name", "key", "state"], rows)


@keys.command("revoke")
def revoke_key(key_id: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """End a key, within a second in every process."""
    from threadloom.commands import keys as key_commands

    start(key_commands.revoke(settings_of(data_dir, config), key_id))
