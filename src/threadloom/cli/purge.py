"""`threadloom purge`."""

import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, show_json, show_table
from threadloom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from threadloom.keeping.aging import What

purging = typer.Typer()
KINDS = "threads, files, vector_stores, events, deliveries, usage"


@purging.command()
def purge(
    older_than: Annotated[str, typer.Option(help="Such as 30d or 12h.")],
    what: Annotated[list[str], typer.Option(help=f"Of {KINDS}; may be given several times.")],
    project: Annotated[str | None, typer.Option(help="Its name or id; otherwise all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Delete what nobody has used for so long, with its files, vectors and traces; the server may go on meanwhile."""
    from threadloom.commands import purge as commands

    settings = settings_of(data_dir, config)
    age = commands.age_of(older_than)
    whats = known(what)
    counts: Mapping[What, int] = {}
    if dry_run or not yes:
        counts = start(
            commands.purge(settings, whats, older_than=age, project=project, dry_run=True)
        )
    if not dry_run:
        if not yes:
            ask(", ".join(f"{count} {name}" for name, count in counts.items()))
        counts = start(
            commands.purge(settings, whats, older_than=age, project=project, dry_run=False)
        )
    if as_json:
        show_json({"dry_run": dry_run, "counts": counts})
    else:
        show_table(("what", "would go" if dry_run else "deleted"), list(counts.items()))


def known(given: "Sequence[str]") -> "Sequence[What]":
    """Raises StartError."""
    from threadloom.keeping.aging import WHATS

    for each in given:
        if each not in WHATS:
            raise StartError(f"'{each}' cannot be purged: name one of {KINDS}.")
    return cast("Sequence[What]", given)  # just looked at


def ask(found: str) -> None:
    """Raises StartError where there is nobody to be asked."""
    if not sys.stdin.isatty():
        raise StartError("Nothing was deleted: say --yes, because nobody can be asked here.")
    typer.confirm(f"Delete {found}?", abort=True, err=True)
