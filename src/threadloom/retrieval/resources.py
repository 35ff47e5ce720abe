"""What tools may use: files that code sees, and the vector store that is searched. One transaction each."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from threadloom.db.rows import VectorStoreRow
from threadloom.db.tx import ProjectTx, Shown, Tx
from threadloom.errors import InvalidRequest
from threadloom.retrieval.stores import attach, file_names, fill, new_store, refuse_unfit
from threadloom.types.messages import MessageCreate
from threadloom.types.tools import (
    MAX_CODE_FILES,
    BuiltInType,
    FileSearchResources,
    FileSearchResourcesCreate,
    ToolResources,
    ToolResourcesModify,
    VectorStoreHelper,
)
from threadloom.types.vector_stores import ExpiresAfter, files_of

A_WEEK = ExpiresAfter(anchor="last_active_at", days=7)
"""How long a store lives that was made for a thread."""


def chosen_resources(
    tx: ProjectTx,
    given: ToolResourcesModify | None,
    current: ToolResources | None = None,
    *,
    tables: bool,
    expires_after: ExpiresAfter | None = None,
) -> ToolResources:
    """The given parts in stored form; each replaces its part of `current` whole.

    A store that is made for them expires as `expires_after` says. Raises NotFound.
    """
    [chosen] = living(tx, [current or {}])
    if given is not None and given.code_interpreter is not None:
        file_ids = given.code_interpreter.file_ids or []
        file_names(tx, file_ids)
        chosen["code_interpreter"] = {"file_ids": list(file_ids)}
    if given is not None and given.file_search is not None:
        helpers = made_stores(tx, given.file_search, expires_after, tables=tables)
        chosen["file_search"] = {"vector_store_ids": helpers or named_stores(tx, given.file_search)}
    return chosen


def named_stores(tx: ProjectTx, given: FileSearchResources) -> list[str]:
    return [tx.show(VectorStoreRow, store_id)["id"] for store_id in given.vector_store_ids or ()]


def made_stores(
    tx: ProjectTx, given: FileSearchResources, expires_after: ExpiresAfter | None, *, tables: bool
) -> list[str]:
    if not isinstance(given, FileSearchResourcesCreate):
        return []
    return [
        made_store(tx, helper, expires_after, tables=tables) for helper in given.vector_stores or ()
    ]


def made_store(
    tx: ProjectTx, helper: VectorStoreHelper, expires_after: ExpiresAfter | None, *, tables: bool
) -> str:
    refuse_unfit(tx, helper.file_ids or (), tables=tables)
    store = new_store(tx, expires_after=expires_after, metadata=helper.metadata)
    fill(tx, store, files_of(helper.file_ids, helper.chunking_strategy))
    return store.id


# What is deleted is used no more


def living(tx: Tx, resources: Sequence[ToolResources]) -> list[ToolResources]:
    """The same without vector stores that have been deleted."""
    named = {store_id for each in resources for store_id in store_ids(each)}
    known = known_stores(tx, named)
    return [
        each | {"file_search": {"vector_store_ids": [one for one in found if one in known]}}
        if (found := store_ids(each))
        else dict(each)
        for each in resources
    ]


def with_living(tx: Tx, rows: Sequence[Shown]) -> list[Shown]:
    """Assistants or threads, to be sent, without vector stores that have been deleted."""
    resources = living(tx, [row["tool_resources"] for row in rows])
    return [row | {"tool_resources": each} for row, each in zip(rows, resources, strict=True)]


def store_ids(resources: ToolResources) -> list[str]:
    return resources.get("file_search", {}).get("vector_store_ids", [])


def known_stores(tx: Tx, named: Collection[str]) -> set[str]:
    """Those of the vector stores that have not been deleted."""
    if not named:
        return set()
    return set(tx.session.scalars(select(VectorStoreRow.id).where(VectorStoreRow.id.in_(named))))


# Attachments


@dataclass(frozen=True)
class Attached:
    """The files of messages, each once, by what they are for."""

    code: Sequence[str]
    search: Sequence[str]


def attached(tx: ProjectTx, messages: Iterable[MessageCreate], *, tables: bool) -> Attached:
    """What comes with messages. To be asked before their thread is locked: files are locked first. Raises NotFound."""
    given = [
        (attachment.file_id, {tool.type for tool in attachment.tools or ()})
        for message in messages
        for attachment in message.attachments or ()
        if attachment.file_id is not None
    ]

    def files_for(tool: BuiltInType) -> list[str]:
        return list(dict.fromkeys(file_id for file_id, tools in given if tool in tools))

    file_names(tx, [file_id for file_id, _ in given])
    refuse_unfit(tx, files_for("file_search"), tables=tables)
    return Attached(files_for("code_interpreter"), files_for("file_search"))


def with_attached(
    tx: ProjectTx, resources: ToolResources, files: Attached, *, tables: bool
) -> ToolResources:
    """What a thread's tools may use once messages with these files are in it."""
    if files.code:
        resources = resources | {"code_interpreter": {"file_ids": seen_by_code(resources, files)}}
    if files.search:
        store_id = searched_store(tx, resources, files, tables=tables)
        resources = resources | {"file_search": {"vector_store_ids": [store_id]}}
    return resources


def seen_by_code(resources: ToolResources, files: Attached) -> list[str]:
    before = resources.get("code_interpreter", {}).get("file_ids", [])
    seen = list(dict.fromkeys([*before, *files.code]))
    if len(seen) > MAX_CODE_FILES:
        raise InvalidRequest(
            f"Invalid 'attachments': too many files for the code interpreter. Expected at most {MAX_CODE_FILES} files "
            f"in a thread, but got {len(seen)} instead.",
            param="attachments",
            code="array_above_max_length",
        )
    return seen


def searched_store(
    tx: ProjectTx, resources: ToolResources, files: Attached, *, tables: bool
) -> str:
    """The thread's vector store, made if there is none, with the files in it."""
    found = store_ids(living(tx, [resources])[0])
    if found:
        attach(tx, found[0], files_of(list(files.search), None), tables=tables)
        return found[0]
    store = new_store(tx, expires_after=A_WEEK)
    fill(tx, store, files_of(list(files.search), None))
    return store.id
