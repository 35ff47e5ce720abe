"""`threadloom stores`."""

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
    cell,
    field,
    show_fields,
    show_json,
    show_page,
    show_table,
    show_text,
    when,
)
from threadloom.cli.serving import reindex

if TYPE_CHECKING:
    from threadloom.commands.stores import StoreWithFiles
    from threadloom.types.vector_stores import VectorStore, VectorStoreFile

COLUMNS: "Columns[VectorStore]" = {
    "id": lambda one: one.id,
    "name": lambda one: one.name,
    "status": lambda one: one.status,
    "files": lambda one: one.file_counts.total,
    "failed": lambda one: one.file_counts.failed,
    "bytes": lambda one: one.usage_bytes,
    "used": lambda one: when(one.last_active_at),
    "expires": lambda one: when(one.expires_at),
}
FILE_COLUMNS: "Columns[VectorStoreFile]" = {
    "file": lambda one: one.id,
    "status": lambda one: one.status,
    "done": lambda one: f"{one.progress:.0%}",
    "bytes": lambda one: one.usage_bytes,
    "error": lambda one: one.last_error and one.last_error.message,
}
stores = typer.Typer(no_args_is_help=True, help="Vector stores.")
stores.command("reindex")(reindex)


@stores.command("list")
def list_stores(
    limit: PageLimit = 20,
    after: After = None,
    order: ListOrder = "desc",
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List a project's vector stores."""
    from threadloom.commands import stores as actions

    scope = scope_of(project, data_dir, config)
    found = start(actions.page(scope, query_of(limit, after, order)))
    show_page(found, COLUMNS, as_json=as_json)


@stores.command("show")
def show_store(
    store_id: str,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="So many of its newest files.")
    ] = 100,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a vector store and its files."""
    from threadloom.commands import stores as actions

    store = start(actions.show(scope_of(project, data_dir, config), store_id, limit))
    if as_json:
        show_json(store)
    else:
        show_with_files(store)


@stores.command("search")
def search_store(
    store_id: str,
    question: str,
    limit: Annotated[int, typer.Option(min=1, max=50, help="At most so many passages.")] = 10,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Only passages with this score or more.")
    ] = 0.0,
    project: Project = "default",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Search a vector store, and print scores and passages, best first."""
    from threadloom.commands import stores as actions

    scope = scope_of(project, data_dir, config)
    found = start(actions.search(scope, store_id, question, limit=limit, threshold=threshold))
    if as_json:
        show_json(found)
        return
    for result in found.data:
        typer.echo(f"{cell(result.score)}  {cell(result.filename)}  {result.file_id}")
        for piece in result.content:
            show_text(piece.text)


def show_with_files(store: "StoreWithFiles") -> None:
    document = store.model_dump(mode="json", exclude={"files"})
    show_fields({name: field(name, value) for name, value in document.items() if value is not None})
    if store.files:
        typer.echo()
        rows = [[get(file) for get in FILE_COLUMNS.values()] for file in store.files]
        show_table(list(FILE_COLUMNS), rows)
