"""The command line: it builds the settings and hands them down. A file for each group of commands.

Each command imports what it needs when it is called: all of it together takes more than a second.
"""

import sys

import typer

from threadloom.cli.archive import archive
from threadloom.cli.assistants import assistants
from threadloom.cli.backup import backup
from threadloom.cli.db import db
from threadloom.cli.files import files
from threadloom.cli.keys import keys
from threadloom.cli.limits import limits
from threadloom.cli.models import models
from threadloom.cli.operate import operate
from threadloom.cli.purge import purging
from threadloom.cli.runs import runs
from threadloom.cli.sandbox import sandbox
from threadloom.cli.serving import top_level
from threadloom.cli.stores import stores
from threadloom.cli.threads import threads
from threadloom.cli.usage import usage
from threadloom.cli.webhooks import webhooks
from threadloom.commands.garbage import collect_seldom
from threadloom.errors import StartError
from threadloom.telemetry import logs

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Pretty tracebacks show variables, and keys are among them.
    pretty_exceptions_enable=False,
    help="OpenAI's Assistants API (v2), self-hosted.",
)
cli.add_typer(top_level)
cli.add_typer(purging)
cli.add_typer(operate)
cli.add_typer(archive)
cli.add_typer(usage)
cli.add_typer(models, name="models")
cli.add_typer(keys, name="keys")
cli.add_typer(assistants, name="assistants")
cli.add_typer(threads, name="threads")
cli.add_typer(runs, name="runs")
cli.add_typer(files, name="files")
cli.add_typer(stores, name="stores")
cli.add_typer(backup, name="backup")
cli.add_typer(db, name="db")
cli.add_typer(limits, name="limits")
cli.add_typer(sandbox, name="sandbox")
cli.add_typer(webhooks, name="webhooks")


def main() -> None:
    """Run the command line; what keeps the program from starting is one sentence, not a traceback."""
    collect_seldom()
    logs.configure()
    try:
        cli()
    except StartError as error:
        typer.secho(str(error), fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
