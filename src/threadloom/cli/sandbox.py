"""`threadloom sandbox`."""

from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table

sandbox = typer.Typer(no_args_is_help=True, help="Where Python that models write is run.")


@sandbox.command("build")
def build_sandbox(
    base: Annotated[str | None, typer.Option(help="A Python image to build on.")] = None,
    network: Annotated[str | None, typer.Option(help="The build's network, such as host.")] = None,
    cache: Annotated[bool, typer.Option(help="Use what earlier builds made.")] = True,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Build the image, with the packages that code may use."""
    from threadloom.commands import sandbox as sandbox_commands

    settings = settings_of(data_dir, config)
    sandbox_commands.build(settings, base=base, network=network, cache=cache)


@sandbox.command("check")
def check_sandbox(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Say whether engine, image and sandbox work."""
    from threadloom.commands import sandbox as sandbox_commands

    start(sandbox_commands.check(settings_of(data_dir, config)))


@sandbox.command("ps")
def list_sandboxes(
    data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List the sandboxes of this engine."""
    from threadloom.commands import sandbox as sandbox_commands

    found = start(sandbox_commands.show(settings_of(data_dir, config)))
    if as_json:
        show_json(found)
        return
    rows = [
        (one.id, one.started_by, one.state, f"{one.age:.0f} s", mebibytes(one.memory))
        for one in found
    ]
    show_table(["id", "started by", "state", "age", "memory"], rows)


def mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"


@sandbox.command("kill")
def end_sandbox(
    container: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of this engine's.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """End a sandbox and all in it; its thread gets a new one when it needs one."""
    from threadloom.commands import sandbox as sandbox_commands

    if everything == bool(container):
        raise typer.BadParameter("Give an id, or --all.")
    ended = start(sandbox_commands.kill(settings_of(data_dir, config), container=container))
    typer.echo(f"Ended {ended}.")


@sandbox.command("serve")
def serve_sandboxes(
    build: Annotated[
        bool, typer.Option("--build", help="Build the image first, if this version's is not there.")
    ] = False,
    base: Annotated[str | None, typer.Option(help="A Python image to build on.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Hold sandboxes for workers that have no engine."""
    from threadloom.commands import sandbox as sandbox_commands
    from threadloom.commands import sandbox_runner

    settings = settings_of(data_dir, config)
    if build:
        sandbox_commands.build_missing(settings, base=base)
    start(sandbox_runner.serve(settings))
