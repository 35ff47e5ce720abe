"""Writes docs/reference/cli.md from the commands themselves: `python -m tools.commands`."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Literal, get_args, get_origin

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from threadloom.cli import cli

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
HEAD = """# Command line

`threadloom --help`, and `--help` behind every command, tell the same as this page, which `tools/commands.py` writes.

- Commands work on the database and the file storage of the settings: run them where the server's settings are, while it works or not. Two options are the same everywhere and not listed below:
  `--data-dir` (SQLite file, file bytes and caches) and `--config` (a YAML file of [settings](../configuration.md)).
- What comes on standard output is the answer: a table on a terminal, lines with columns two spaces apart elsewhere, one JSON document with `--json`. Anything else comes on standard error.
- Secrets are never arguments: they come from the environment, a file, standard input or a question.
- Objects belong to projects: `--project` names one.

| exit code | |
|---|---|
| 0 | Done. |
| 1 | It could not be done; one sentence on standard error says why. Commands that examine something also end with 1 when it is not well. |
| 2 | The command was not understood: an unknown option, a missing argument, a value of the wrong kind. |
| 130 | Interrupted (Ctrl-C). |
"""
EVERYWHERE = {"data_dir", "config"}


def page() -> str:
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    return "\n".join([HEAD, *sections(group, "threadloom", 2)])


def sections(group: TyperGroup, path: str, level: int) -> Iterator[str]:
    """A section for each command that can be run, and for each group."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        yield f"{'#' * level} {path} {name}\n"
        yield f"{command.help or ''}\n"
        if isinstance(command, TyperGroup):
            yield from sections(command, f"{path} {name}", level + 1)
        elif isinstance(command, TyperCommand):
            yield from parameters(command)


def parameters(command: TyperCommand) -> Iterator[str]:
    known = [one for one in command.params if isinstance(one, TyperArgument | TyperOption)]
    shown = [one for one in known if not one.hidden and one.name not in EVERYWHERE]
    if shown:
        yield "| | default | |\n|---|---|---|"
        yield from map(row, shown)
        yield ""


def row(one: TyperArgument | TyperOption) -> str:
    described = (one.help or "").removesuffix(".")
    values = ", ".join(f"`{value}`" for value in choices(one.type_descriptor.annotation))
    meaning = ": ".join(part for part in (described, values) if part)
    return f"| `{name_of(one)}` | {default_of(one)} | {meaning}{'.' if meaning else ''} |"


def name_of(one: TyperArgument | TyperOption) -> str:
    if isinstance(one, TyperArgument):
        name = (one.metavar or one.name or "").strip("[]").upper()
        return name if one.required else f"[{name}]"
    return "`, `".join([*one.opts, *one.secondary_opts])


def default_of(one: TyperArgument | TyperOption) -> str:
    if one.required:
        return "required"
    if one.default is None or callable(one.default) or one.default is False:
        return ""
    return "on" if one.default is True else f"`{one.default}`"


def choices(annotation: object) -> list[str]:
    """The values that are possible, where they are few."""
    if get_origin(annotation) is list:
        return choices(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(one.value) for one in annotation]
    return []


if __name__ == "__main__":
    PAGE.write_text(page())
