"""`threadloom import` and `threadloom export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from threadloom.cli.options import ConfigFile, DataDir, settings_of, start
from threadloom.cli.output import AsJson, note, show_json, show_table
from threadloom.config import import_key
from threadloom.errors import StartError

archive = typer.Typer()
SHOWN = 20
Project = Annotated[str, typer.Option(help="The project that the objects belong to.")]


class ApiStyle(StrEnum):
    """How another server is asked."""

    openai = "openai"
    azure = "azure"


@archive.command("import")
def import_archive(
    path: Annotated[
        Path | None,
        typer.Argument(help="A directory, .zip, .tar(.gz), .json or .jsonl file of saved objects."),
    ] = None,
    from_api: Annotated[
        str | None, typer.Option(help="Copy from this Assistants server instead: its base URL.")
    ] = None,
    api_style: Annotated[
        ApiStyle, typer.Option(help="How that server is asked.")
    ] = ApiStyle.openai,
    api_version: Annotated[str, typer.Option(help="Azure's `api-version`.")] = "2024-05-01-preview",
    api_key_file: Annotated[
        str | None,
        typer.Option(
            help="A file with that server's key, `-` for standard input; else THREADLOOM_IMPORT__API_KEY."
        ),
    ] = None,
    threads: Annotated[
        Path | None,
        typer.Option(help="A file with the ids of the threads to copy, one a line."),
    ] = None,
    project: Project = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; report the same.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Bring assistants, threads, messages, runs, vector stores and files along, with their ids. It can be interrupted and repeated."""
    from threadloom.commands import importing

    if (path is None) == (from_api is None):
        raise StartError("Give either a path or --from-api, and not both.")
    settings = settings_of(data_dir, config)
    if path is not None:
        report = start(importing.from_path(settings, path, project=project, dry_run=dry_run))
    else:
        assert from_api is not None
        remote = importing.Remote(
            from_api, api_style.value, api_version, import_key(api_key_file), threads
        )
        report = start(importing.from_api(settings, remote, project=project, dry_run=dry_run))
    if as_json:
        show_json(report.as_json())
        return
    kinds = [*report.imported, *report.present, *report.skipped_by_kind]
    show_table(
        ["kind", "would be imported" if dry_run else "imported", "there already", "skipped"],
        [
            (kind, report.imported[kind], report.present[kind], report.skipped_by_kind[kind])
            for kind in dict.fromkeys(kinds)
        ],
    )
    for line in importing.explained(report, SHOWN):
        note(line)


@archive.command("export")
def export_archive(
    path: Annotated[Path, typer.Argument(help="A new directory, or a new file that ends in .zip.")],
    project: Project = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Write a project's objects and the bytes of its files, as `import` reads them."""
    from threadloom.commands import exporting

    done = start(exporting.export(settings_of(data_dir, config), path, project=project))
    if as_json:
        about = {"exported": done.counts, "lost": done.lost}
        show_json({"object": "export", "path": str(path), **about})
    else:
        show_table(["kind", "exported"], list(done.counts.items()))
        if done.lost:
            some = ", ".join(done.lost[:3])
            note(
                f"{len(done.lost)} files have no bytes, such as {some}: see `threadloom db orphans`."
            )
