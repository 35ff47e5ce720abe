"""`threadloom backup`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, note, show_json

if TYPE_CHECKING:
    from threadloom.keeping.layout import Manifest

backup = typer.Typer(no_args_is_help=True, help="Backups of the database and of all files.")
New = Annotated[Path, typer.Argument(help="A directory that is not there yet.")]
Made = Annotated[Path, typer.Argument(help="A backup's directory.")]


@backup.command("create")
def create_backup(
    path: New, json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Back up the database and the files it refers to, while the server works. Ends with 1 when files had no bytes."""
    from threadloom.commands import backup as commands

    manifest = start(commands.create(settings_of(data_dir, config), path))
    tell(manifest, f"Backed up to {path}", json=json)
    if manifest.missing_blobs:
        note(f"{manifest.missing_blobs} files have no bytes: see `threadloom db orphans`.")
        raise typer.Exit(1)


@backup.command("verify")
def verify_backup(path: Made, json: AsJson = False) -> None:
    """Read every byte of a backup, and say what is not as it was. Ends with 1 when something is wrong or missing."""
    from threadloom.commands import backup as commands

    manifest, faults = commands.verify(path)
    if json:
        show_json({"ok": not faults, "faults": faults, "manifest": manifest})
    else:
        for fault in faults:
            typer.secho(fault, fg="red", err=True)
    if faults:
        raise typer.Exit(1)
    if not json:
        tell(manifest, f"{path} is whole")


@backup.command("restore")
def restore_backup(
    path: Made,
    force: Annotated[
        bool, typer.Option("--force", help="Replace all that is in the database.")
    ] = False,
    json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Restore into an empty database, of either kind. Servers and workers have to be stopped."""
    from threadloom.commands import backup as commands

    manifest = start(commands.restore(settings_of(data_dir, config), path, force=force))
    tell(manifest, f"Restored {path}", json=json)


def tell(manifest: "Manifest", what: str, *, json: bool = False) -> None:
    if json:
        show_json(manifest)
        return
    rows = sum(part.lines for part in manifest.tables.values())
    typer.echo(
        f"{what}: {rows:,} rows of {len(manifest.tables)} tables, {manifest.blobs.lines:,} blobs "
        f"with {manifest.blob_bytes:,} bytes, schema {manifest.schema_revision}."
    )
