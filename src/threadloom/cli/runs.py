"""`threadloom runs`."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

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
    plain,
    show_fields,
    show_json,
    show_page,
    show_table,
    when,
)

if TYPE_CHECKING:
    from threadloom.commands.runs import RunWithSteps
    from threadloom.eventlog import Event
    from threadloom.types.run_steps import RunStep
    from threadloom.types.runs import Run


class Status(StrEnum):
    """Of a run: Typer takes no list of literals."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"


def what(step: "RunStep") -> str:
    """The message that a step writes, or the tools that it calls."""
    if step.step_details.type == "message_creation":
        return step.step_details.message_creation.message_id
    return ", ".join(
        call.function.name if call.type == "function" else call.type
        for call in step.step_details.tool_calls
    )


COLUMNS: "Columns[Run]" = {
    "id": lambda one: one.id,
    "status": lambda one: one.status,
    "thread": lambda one: one.thread_id,
    "assistant": lambda one: one.assistant_id,
    "model": lambda one: one.model,
    "tokens": lambda one: one.usage and one.usage.total_tokens,
    "error": lambda one: one.last_error and one.last_error.code,
    "created": lambda one: when(one.created_at),
}
STEP_COLUMNS: "Columns[RunStep]" = {
    "id": lambda one: one.id,
    "what": what,
    "status": lambda one: one.status,
    "tokens": lambda one: one.usage and one.usage.total_tokens,
    "error": lambda one: one.last_error and one.last_error.message,
    "created": lambda one: when(one.created_at),
    "seconds": lambda one: one.completed_at and one.completed_at - one.created_at,
}
SHOWN = (
    "id", "status", "thread_id", "assistant_id", "model", "created_at", "started_at", "completed_at", "failed_at",
    "cancelled_at", "expires_at", "required_action", "last_error", "incomplete_details", "usage", "metadata",
)  # fmt: skip
MESSAGE_DELTA = "thread.message.delta"
runs = typer.Typer(no_args_is_help=True, help="Runs.")


@runs.command("list")
def list_runs(
    status: Annotated[
        list[Status] | None, typer.Option(help="Only those; several are possible.")
    ] = None,
    thread: Annotated[str | None, typer.Option(help="Only those of this thread.")] = None,
    limit: PageLimit = 20,
    after: After = None,
    order: ListOrder = "desc",
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List a project's runs, of all threads."""
    from threadloom.commands import runs as actions

    scope, query = scope_of(project, data_dir, config), query_of(limit, after, order)
    statuses = [one.value for one in status or ()]
    found = start(actions.page(scope, query, thread_id=thread, statuses=statuses))
    show_page(found, COLUMNS, as_json=as_json)


@runs.command("show")
def show_run(
    run_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: its steps, what it used, and why it failed."""
    from threadloom.commands import runs as actions

    run = start(actions.show(scope_of(project, data_dir, config), run_id))
    if as_json:
        show_json(run)
    else:
        show_with_steps(run)


@runs.command("watch")
def watch_run(
    run_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document in each line, for each event.")
    ] = False,
) -> None:
    """Follow a run's events from its beginning until it has ended."""
    from threadloom.commands import runs as actions

    told = tell_in_json if as_json else Watching()
    run = start(actions.watch(scope_of(project, data_dir, config), run_id, told))
    if not as_json:
        typer.echo(f"{run.id} is {run.status}.")


@runs.command("cancel")
def cancel_run(
    run_id: str,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a run's end; whoever drives it ends it within a second."""
    from threadloom.commands import runs as actions

    run = start(actions.cancel(scope_of(project, data_dir, config), run_id))
    if as_json:
        show_json(run)
    else:
        typer.echo(f"{run.id} is {run.status}.")


def show_with_steps(run: "RunWithSteps") -> None:
    document = run.model_dump(mode="json", include=set(SHOWN))
    show_fields({name: field(name, document[name]) for name in SHOWN if document[name] is not None})
    if run.steps:
        typer.echo()
        rows = [[get(step) for get in STEP_COLUMNS.values()] for step in run.steps]
        show_table(list(STEP_COLUMNS), rows)


def tell_in_json(event: "Event") -> None:
    document = {"event": event.name, "id": f"{event.epoch}-{event.seq}"}
    typer.echo(json.dumps(document | {"data": json.loads(event.data)}, ensure_ascii=False))


class Watching:
    """Prints text as it is written, and a line for every other event."""

    def __init__(self) -> None:
        self._in_text = False

    def __call__(self, event: "Event") -> None:
        data = json.loads(event.data)
        if event.name == MESSAGE_DELTA:
            self._in_text = True
            typer.echo(text_of(data), nl=False)
        elif not event.name.endswith(".delta"):
            if self._in_text:
                typer.echo()
            self._in_text = False
            error: dict[str, str] | None = data.get("last_error")
            words = [
                event.name,
                data["id"],
                data.get("type", ""),
                error["message"] if error else "",
            ]
            typer.echo(plain("  ".join(word for word in words if word)))


def text_of(delta: dict[str, Any]) -> str:
    parts = delta["delta"].get("content") or ()
    text = "".join(part.get("text", {}).get("value") or part.get("refusal", "") for part in parts)
    return "\n".join(map(plain, text.split("\n")))
