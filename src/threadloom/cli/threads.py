"""`threadloom threads`."""

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
    field,
    note,
    show_deleted,
    show_json,
    show_page,
    show_text,
    when,
)

if TYPE_CHECKING:
    from threadloom.types.messages import Content, Message
    from threadloom.types.threads import Thread

COLUMNS: "Columns[Thread]" = {
    "id": lambda one: one.id,
    "created": lambda one: when(one.created_at),
    "metadata": lambda one: field("metadata", one.metadata),
}
threads = typer.Typer(no_args_is_help=True, help="Threads and what is said in them.")


@threads.command("list")
def list_threads(
    limit: PageLimit = 20,
    after: After = None,
    order: ListOrder = "desc",
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List a project's threads."""
    from threadloom.commands import threads as actions

    scope = scope_of(project, data_dir, config)
    found = start(actions.page(scope, query_of(limit, after, order)))
    show_page(found, COLUMNS, as_json=as_json)


@threads.command("show")
def show_thread(
    thread_id: str,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many of the newest messages; all if none.")
    ] = None,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a thread's conversation."""
    from threadloom.commands import threads as actions

    thread = start(actions.show(scope_of(project, data_dir, config), thread_id, limit))
    if as_json:
        show_json(thread)
        return
    note(f"{thread.id}, of {when(thread.created_at)}")
    for message in thread.messages:
        show_message(message)


@threads.command("delete")
def delete_thread(
    thread_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a thread with its messages, runs and events."""
    from threadloom.commands import threads as actions

    scope = scope_of(project, data_dir, config)
    show_deleted(start(actions.delete(scope, thread_id)), as_json=as_json)


def show_message(message: "Message") -> None:
    state = "" if message.status == "completed" else f" ({message.status})"
    typer.echo(f"{message.role}{state}  {when(message.created_at)}  {message.id}")
    for part in message.content:
        show_text(text_of(part))
    for attachment in message.attachments:
        show_text(f"[attached {attachment.file_id}]")


def text_of(part: "Content") -> str:
    match part.type:
        case "text":
            return part.text.value
        case "refusal":
            return part.refusal
        case "image_file":
            return f"[picture {part.image_file.file_id}]"
        case "image_url":
            return f"[picture {part.image_url.url}]"
