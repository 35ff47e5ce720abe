"""The command line: it builds the settings and hands them down.

Each command imports what it needs when it is called: all of it together takes more than a second.
"""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import structlog
import typer
import uvloop

from threadloom import __version__, faults
from threadloom.config import Settings, asked_fault, load_settings
from threadloom.errors import StartError
from threadloom.types.webhooks import EventType

if TYPE_CHECKING:
    from threadloom.commands.limits import Subject

T = TypeVar("T")
cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Pretty tracebacks show variables, and keys are among them.
    pretty_exceptions_enable=False,
    help="OpenAI's Assistants API (v2), self-hosted.",
)
keys = typer.Typer(no_args_is_help=True, help="API keys.")
db = typer.Typer(no_args_is_help=True, help="The database.")
cli.add_typer(keys, name="keys")
sandbox = typer.Typer(no_args_is_help=True, help="Where Python that models write is run.")
limits = typer.Typer(no_args_is_help=True, help="What projects and keys may use.")
cli.add_typer(db, name="db")
cli.add_typer(limits, name="limits")
cli.add_typer(sandbox, name="sandbox")
webhooks = typer.Typer(no_args_is_help=True, help="Whom projects tell of what happens.")
cli.add_typer(webhooks, name="webhooks")

DataDir = Annotated[Path | None, typer.Option(help="SQLite file, file bytes and caches.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.")]
Limit = Annotated[int | None, typer.Option(min=0, help="0: as in the settings.")]
Project = Annotated[str | None, typer.Option(help="A project's name.")]
Key = Annotated[str | None, typer.Option(help="A key's id, from `threadloom keys list`.")]


@cli.command()
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


@cli.command()
def worker(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Drive runs, without HTTP."""
    settings = settings_of(data_dir, config)
    from threadloom.commands.work import work as run_worker

    start(run_worker(settings))


@cli.command()
def reindex(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Embed again what another embedding model embedded; `serve` may go on meanwhile."""
    from threadloom.commands.reindex import reindex as embed_again

    done = start(embed_again(settings_of(data_dir, config)))
    typer.echo(f"Embedded {done} files again.")


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


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
    typer.echo(start(key_commands.create(settings, project=project, name=name, limits=chosen)))


@keys.command("list")
def list_keys(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all keys."""
    from threadloom.commands import keys as key_commands

    start(key_commands.show(settings_of(data_dir, config)))


@keys.command("revoke")
def revoke_key(key_id: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """End a key, within a second in every process."""
    from threadloom.commands import keys as key_commands

    start(key_commands.revoke(settings_of(data_dir, config), key_id))


@limits.command("show")
def show_limits(
    project: Project = None,
    key: Key = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show a project's or key's limits, and what counts against them."""
    from threadloom.commands import limits as limit_commands

    subject = subject_of(project, key)
    start(limit_commands.show(settings_of(data_dir, config), subject))


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


@db.command()
def upgrade(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Bring the database to this program's schema; `serve` does it by itself."""
    start(migrate(settings_of(data_dir, config)))


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
def list_sandboxes(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List the sandboxes of this engine."""
    from threadloom.commands import sandbox as sandbox_commands

    start(sandbox_commands.show(settings_of(data_dir, config)))


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
def serve_sandboxes(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Hold sandboxes for workers that have no engine."""
    from threadloom.commands import sandbox as sandbox_commands

    start(sandbox_commands.serve(settings_of(data_dir, config)))


@webhooks.command("create")
def create_webhook(
    url: Annotated[str, typer.Argument(help="Where events are sent to.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="An event to tell of; several are possible, all if none."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the endpoint is.")] = "webhook",
    project: Annotated[str, typer.Option(help="Made if there is none.")] = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make an endpoint; print its id, and its secret, which is never shown again."""
    from threadloom.commands import webhooks as webhook_commands

    settings = settings_of(data_dir, config)
    made = webhook_commands.create(
        settings, project=project, name=name, url=url, events=event or ()
    )
    typer.echo("\n".join(start(made)))


@webhooks.command("list")
def list_webhooks(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List the endpoints of all projects."""
    from threadloom.commands import webhooks as webhook_commands

    start(webhook_commands.show(settings_of(data_dir, config)))


@webhooks.command("delete")
def delete_webhook(endpoint_id: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """End an endpoint; what is pending is not sent."""
    from threadloom.commands import webhooks as webhook_commands

    start(webhook_commands.delete(settings_of(data_dir, config), endpoint_id))


@webhooks.command("test")
def try_webhook(
    endpoint_id: str,
    event: Annotated[EventType, typer.Option(help="What to tell of.")] = "thread.run.completed",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Send an endpoint a sample event, and say what it answered."""
    from threadloom.commands import webhooks as webhook_commands

    reply = start(webhook_commands.test(settings_of(data_dir, config), endpoint_id, event))
    if reply.error:
        raise StartError(reply.error)
    typer.echo(f"The endpoint answered with status {reply.status}.")


@webhooks.command("deliveries")
def list_webhook_deliveries(
    endpoint_id: str, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Show the newest deliveries of an endpoint."""
    from threadloom.commands import webhooks as webhook_commands

    start(webhook_commands.deliveries(settings_of(data_dir, config), endpoint_id))


@webhooks.command("replay")
def replay_webhook_delivery(
    delivery_id: str, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Send the event of a delivery once more, and print the id of the new one."""
    from threadloom.commands import webhooks as webhook_commands

    typer.echo(start(webhook_commands.replay(settings_of(data_dir, config), delivery_id)))


async def migrate(settings: Settings) -> None:
    from threadloom.commands.database import open_database

    async with open_database(settings):
        pass


def settings_of(data_dir: Path | None, config: Path | None, **sections: dict[str, Any]) -> Settings:
    """The settings, with the flags that were given on top."""
    flags: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    for name, section in sections.items():
        if given := {key: value for key, value in section.items() if value is not None}:
            flags[name] = given
    arm_fault()
    return load_settings(flags, config=config)


def arm_fault() -> None:
    """Only tests ask for one."""
    if fault := asked_fault():
        try:
            faults.arm(fault)
        except ValueError as error:
            raise StartError(f"THREADLOOM_FAULT: {error}.") from None


def start(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def configure_logging() -> None:
    """One line for each thing that finished, on standard error: for people, or as JSON when nobody watches."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def main() -> None:
    """Run the command line; what keeps the program from starting is one sentence, not a traceback."""
    configure_logging()
    try:
        cli()
    except StartError as error:
        typer.secho(str(error), fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
