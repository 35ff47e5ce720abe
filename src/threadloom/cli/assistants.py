"""`threadloom assistants`."""

from enum import StrEnum
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
    show_made,
    show_object,
    show_page,
    when,
)

if TYPE_CHECKING:
    from threadloom.types.assistants import Assistant


class BuiltIn(StrEnum):
    """Tools of this server: Typer takes no list of literals."""

    FILE_SEARCH = "file_search"
    CODE_INTERPRETER = "code_interpreter"


COLUMNS: "Columns[Assistant]" = {
    "id": lambda one: one.id,
    "name": lambda one: one.name,
    "model": lambda one: one.model,
    "tools": lambda one: [tool.type for tool in one.tools],
    "created": lambda one: when(one.created_at),
}
assistants = typer.Typer(no_args_is_help=True, help="Assistants.")


@assistants.command("list")
def list_assistants(
    limit: PageLimit = 20,
    after: After = None,
    order: ListOrder = "desc",
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List a project's assistants."""
    from threadloom.commands import assistants as actions

    scope = scope_of(project, data_dir, config)
    found = start(actions.page(scope, query_of(limit, after, order)))
    show_page(found, COLUMNS, as_json=as_json)


@assistants.command("show")
def show_assistant(
    assistant_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show an assistant."""
    from threadloom.commands import assistants as actions

    found = start(actions.show(scope_of(project, data_dir, config), assistant_id))
    show_object(found, as_json=as_json)


@assistants.command("create")
def create_assistant(
    assistant_id: Annotated[
        str | None,
        typer.Option("--id", help="Keep this id, so that programs that have it go on working."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The name of its model.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name.")] = None,
    instructions: Annotated[str | None, typer.Option(help="What it is told.")] = None,
    tool: Annotated[
        list[BuiltIn] | None, typer.Option(help="A tool; several are possible.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A JSON file in the API's form; options go before what is in it."),
    ] = None,
    project: Annotated[str, typer.Option(help="Made if there is none.")] = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an assistant, and print its id."""
    from threadloom.commands import assistants as actions

    if model is None and file is None:
        raise typer.BadParameter("Give a model, or a file.")
    tools = [{"type": kind.value} for kind in tool] if tool else None
    options = {"model": model, "name": name, "instructions": instructions, "tools": tools}
    given = actions.read_body(file) if file else {}
    given |= {key: value for key, value in options.items() if value is not None}
    scope = scope_of(project, data_dir, config)
    made = start(actions.create(scope, given, assistant_id))
    show_made(made, as_json=as_json)


@assistants.command("delete")
def delete_assistant(
    assistant_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete an assistant; runs that have begun go on."""
    from threadloom.commands import assistants as actions

    scope = scope_of(project, data_dir, config)
    show_deleted(start(actions.delete(scope, assistant_id)), as_json=as_json)
