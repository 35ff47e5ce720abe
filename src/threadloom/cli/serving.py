"""The commands that have no group: those that run, and some small ones."""

import platform
from typing import Annotated

import typer

from threadloom import __version__
from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, show_json

Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.")]
top_level = typer.Typer()


@top_level.command()
def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    worker: Annotated[bool, typer.Option(help="Drive runs in this process too.")] = True,
) -> None:
    """Serve the API."""
    settings = settings_of(data_dir, config, server={"host": host, "port": port})
    from threadloom.commands.serve import serve as run_server

    start(run_server(settings, with_worker=worker))


@top_level.command()
def worker(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Drive runs, without HTTP."""
    settings = settings_of(data_dir, config)
    from threadloom.commands.work import work as run_worker

    start(run_worker(settings))


@top_level.command()
def reindex(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Embed again what another embedding model embedded; `serve` may go on meanwhile."""
    from threadloom.commands.reindex import reindex as embed_again

    done = start(embed_again(settings_of(data_dir, config)))
    typer.echo(f"Embedded {done} files again.")


@top_level.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        show_json({"version": __version__, "python": platform.python_version()})
    else:
        typer.echo(__version__)
