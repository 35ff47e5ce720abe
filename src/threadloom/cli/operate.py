"""What operators ask: is it well, what does it do, and with which settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, note, show_json, show_table
from threadloom.config import Settings, load_settings
from threadloom.errors import StartError

if TYPE_CHECKING:
    from threadloom.commands.doctor.findings import Finding

operate = typer.Typer()
configuration = typer.Typer(no_args_is_help=True, help="The settings.")
operate.add_typer(configuration, name="config")


@operate.command()
def init(
    base_url: Annotated[
        str | None, typer.Option(help="The model's address, ending in /v1; asked for if unset.")
    ] = None,
    path: Annotated[Path, typer.Option("--file", help="What to write.")] = Path(".env"),
    force: Annotated[bool, typer.Option(help="Write it anew.")] = False,
) -> None:
    """Write a `.env` with secrets of its own, readable by its owner only.

    The model's key is taken from THREADLOOM_UPSTREAM__API_KEY, or asked for.
    """
    from threadloom.commands import init as init_commands

    init_commands.refuse_existing(path, force=force)
    settings = load_settings({}, env_file=path)
    api_key = None
    if init_commands.is_asked():
        base_url = (
            base_url
            or settings.upstream.base_url
            or ask("The model's address, ending in /v1 (empty: none yet)")
        )
        if base_url and settings.upstream.api_key is None:
            api_key = ask("Its key (empty: none)", hidden=True)
    chosen = init_commands.values(settings, path, base_url=base_url, api_key=api_key)
    init_commands.write(path, init_commands.text_of(chosen))
    note(f"Wrote {path}: the admin key and PostgreSQL's password are in it.")


def ask(question: str, *, hidden: bool = False) -> str:
    answer: str = typer.prompt(
        question, default="", hide_input=hidden, show_default=False, err=True
    )
    return answer.strip()


@operate.command()
def healthcheck(
    worker: Annotated[
        bool, typer.Option("--worker", help="Of a `worker` on this host, not of `serve`.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Exit with 0 if this machine's `serve` is ready, or its `worker` alive; with 1 if not."""
    settings = settings_of(data_dir, config)
    if worker:
        from threadloom.commands.heartbeat import find_worker

        find_worker(settings)
    else:
        from threadloom.commands.healthcheck import ask as ask_server

        ask_server(settings.server)


@operate.command()
def status(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show processes, queue, runs, storage and failures of the last day."""
    from threadloom.cli.screens import show_status
    from threadloom.commands.status import status as look

    found = look(settings_of(data_dir, config))
    if as_json:
        show_json(found)
    else:
        show_status(found)


@operate.command()
def doctor(
    url: Annotated[
        str | None,
        typer.Option(
            help="The address that programs use, ending in /v1; its key is OPENAI_API_KEY."
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Look at all that a server needs, and say how to mend what is wrong; exit with 1 if something is."""
    from threadloom.cli.screens import show_finding
    from threadloom.commands import doctor as doctors

    found: list[Finding] = []

    def take(finding: "Finding") -> None:
        found.append(finding)
        if not as_json:
            show_finding(finding)

    async def examine(settings: Settings) -> None:
        async for finding in doctors.examine(settings, url=url, key=doctors.key_for(settings)):
            take(finding)

    try:
        settings = settings_of(data_dir, config)
    except StartError as error:
        take(doctors.wrong_settings(error))
    else:
        start(examine(settings))
    if as_json:
        show_json({"findings": found})
    if any(finding.colour == "red" for finding in found):
        raise typer.Exit(1)


@configuration.command("show")
def show_settings(
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what is not the default.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the settings in force and where each is from; secrets are masked."""
    from threadloom.commands import configuration as commands

    flags = frozenset({"data_dir"} if data_dir else ())
    found = commands.effective(settings_of(data_dir, config), flags=flags, config=config)
    shown = [one for one in found if not changed or one.origin != "default"]
    if as_json:
        show_json(shown)
    else:
        show_table(
            ("setting", "value", "from"), [(one.name, one.text, one.origin) for one in shown]
        )


@configuration.command("example")
def print_example() -> None:
    """Print a `config.yaml` with all settings and their defaults, commented out."""
    from threadloom.commands import configuration as commands

    typer.echo(commands.example(), nl=False)


@configuration.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of `config.yaml`, for editors."""
    from threadloom.commands import configuration as commands

    show_json(commands.schema())


@configuration.command("check")
def check_settings(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Say what is wrong with the settings and exit with 1, or exit with 0."""
    from threadloom.commands import configuration as commands

    start(commands.check(settings_of(data_dir, config)))
    typer.echo("The settings are in order.")
