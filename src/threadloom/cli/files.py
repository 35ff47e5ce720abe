"""`threadloom files`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from threadloom.cli.options import (
    After,
    ConfigFile,
    DataDir,
    ListOrder,
    PageLimit,
    Project,
    query_of,
    scope_of,
    start,
)
from threadloom.cli.output import (
    AsJson,
    Columns,
    show_deleted,
    show_json,
    show_made,
    show_object,
    show_page,
    when,
)
from threadloom.types.files import CreatePurpose, Purpose

if TYPE_CHECKING:
    from threadloom.types.files import File

COLUMNS: "Columns[File]" = {
    "id": lambda one: one.id,
    "filename": lambda one: one.filename,
    "purpose": lambda one: one.purpose,
    "bytes": lambda one: one.bytes,
    "created": lambda one: when(one.created_at),
    "expires": lambda one: when(one.expires_at),
}
files = typer.Typer(no_args_is_help=True, help="Files.")


@files.command("list")
def list_files(
    purpose: Annotated[Purpose | None, typer.Option(help="Only those.")] = None,
    limit: PageLimit = 20,
    after: After = None,
    order: ListOrder = "desc",
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List a project's files."""
    from threadloom.commands import files as actions

    scope = scope_of(project, data_dir, config)
    found = start(actions.page(scope, query_of(limit, after, order), purpose))
    show_page(found, COLUMNS, as_json=as_json)


@files.command("show")
def show_file(
    file_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of a file."""
    from threadloom.commands import files as actions

    found = start(actions.show(scope_of(project, data_dir, config), file_id))
    show_object(found, as_json=as_json)


@files.command("upload")
def upload_file(
    path: Path,
    purpose: Annotated[CreatePurpose, typer.Option(help="What it is for.")] = "assistants",
    name: Annotated[str | None, typer.Option(help="Its name, if not the path's.")] = None,
    project: Annotated[str, typer.Option(help="Made if there is none.")] = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a file in, and print its id."""
    from threadloom.commands import files as actions

    scope = scope_of(project, data_dir, config)
    made = start(actions.upload(scope, path, name=name, purpose=purpose))
    show_made(made, as_json=as_json)


@files.command("download")
def download_file(
    file_id: str,
    output: Annotated[
        Path | None, typer.Option(help="Where to, if not under its name into this directory.")
    ] = None,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a file's bytes, whatever its purpose; nothing is overwritten."""
    from threadloom.commands import files as actions

    written = start(actions.download(scope_of(project, data_dir, config), file_id, output))
    if as_json:
        show_json(written)
    else:
        typer.echo(f"Wrote {written.bytes} bytes to {written.path}.")


@files.command("delete")
def delete_file(
    file_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a file, also from vector stores and from what code sees."""
    from threadloom.commands import files as actions

    scope = scope_of(project, data_dir, config)
    show_deleted(start(actions.delete(scope, file_id)), as_json=as_json)
