"""The first pass: everything that can be imported goes to the spool, everything else into the report."""

import re
from typing import Any

from pydantic import ValidationError

from threadloom.archive.documents import LINES, Found, has_nul, read_documents
from threadloom.archive.entries import DAMAGED, Entries, Entry
from threadloom.archive.history import SavedRun, SavedStep
from threadloom.archive.report import Report
from threadloom.archive.saved import (
    MADE_ID,
    Saved,
    SavedAssistant,
    SavedMessage,
    SavedThread,
)
from threadloom.archive.saved_files import (
    SavedFile,
    SavedStore,
    SavedStoreFile,
)
from threadloom.archive.spool import Spool
from threadloom.db.columns import dumps
from threadloom.types.shared import JsonObject

KINDS: dict[str, type[Saved]] = {
    kind.kind: kind
    for kind in (
        *(SavedFile, SavedStore, SavedStoreFile, SavedAssistant),
        *(SavedThread, SavedMessage, SavedRun, SavedStep),
    )
}
JSON = (".json", *LINES)
FAULTS = 100
"""Of each entry; the objects of kinds that we know are told of one by one."""
FILE_ID = re.compile(r"(?:file[-_]|assistant-)[A-Za-z0-9_-]{1,120}")
"""What may be an id: also `file-list` and `assistant-export`, unless it is a `MADE_ID`."""
CONTENT = "by its name or its folder's it is the content of a file, and no file of the archive has it: if it holds objects, rename it"


def read_all(entries: Entries, spool: Spool, report: Report, now: int) -> None:
    """Read every entry once."""

    def refused(path: str, reason: str) -> None:
        report.skip("entries", "", path, reason)

    unclear: dict[str, str] = {}
    for entry in entries.all(refused):
        try:
            owner = owner_of(entry)
            if not entry.path.lower().endswith(JSON):
                spool.add_content(entry.path, entry.size)
            elif owner is None:
                read_entry(entry, spool, report, now)
            elif MADE_ID.fullmatch(owner):
                spool.add_content(entry.path, entry.size, owner=owner, reason=CONTENT)
            else:
                unclear[entry.path] = owner
        except DAMAGED as error:
            refused(entry.path, f"it cannot be read: {type(error).__name__}")
    # Whether the archive has a file with such an id is known only now.
    for entry in entries.some(list(unclear)):
        try:
            if spool.has_file(unclear[entry.path]):
                spool.add_content(entry.path, entry.size, owner=unclear[entry.path], reason=CONTENT)
            else:
                read_entry(entry, spool, report, now)
        except DAMAGED as error:
            refused(entry.path, f"it cannot be read: {type(error).__name__}")


def owner_of(entry: Entry) -> str | None:
    """The id of the file whose content an entry may be, by its folder's name or its own."""
    folder, _, name = entry.path.rpartition("/")
    parent = folder.rpartition("/")[2]
    if FILE_ID.fullmatch(parent):
        return parent
    stem, dot, extension = name.partition(".")
    if FILE_ID.fullmatch(stem) and not is_its_object(entry, stem, dot + extension):
        return stem
    return None


def read_entry(entry: Entry, spool: Spool, report: Report, now: int) -> None:
    """The objects of an entry, or why there are none."""
    faults: list[tuple[str, str]] = []
    count = 0

    def refused(where: str, reason: str) -> None:
        if len(faults) < FAULTS:
            faults.append((where, reason))

    for found in read_documents(entry, refused):
        name = found.value.get("object")
        if isinstance(name, str) and name in KINDS:
            take(found, KINDS[name], spool, report, now)
            count += 1
        else:
            refused(
                found.where, f"objects of this kind are not imported: {str(name or 'none')[:64]}"
            )
    if count:
        for where, reason in faults:
            report.skip("entries", "", where, reason)
    else:
        spool.add_content(entry.path, entry.size, reason=faults[0][1] if faults else None)


def is_its_object(entry: Entry, file_id: str, extension: str) -> bool:
    """Whether `<file id>.json` is the file's object and not its content."""
    if extension.lower() != ".json":
        return False
    found = next(read_documents(entry, lambda _, __: None), None)
    return found is not None and (found.value.get("object"), found.value.get("id")) == (
        "file",
        file_id,
    )


def take(found: Found, kind: type[Saved], spool: Spool, report: Report, now: int) -> None:
    """One object of a known kind."""
    body = dumps(found.value)
    try:
        saved = kind.model_validate(found.value, extra="ignore")
    except (ValidationError, RecursionError) as error:
        report.skip(kind.plural, shown_id(found.value), found.where, explain(error))
        return
    reason = "it contains a NUL character" if has_nul(body.encode()) else saved.refusal(now)
    reason = reason or spool.add(saved, body, found)
    if reason is not None:
        report.skip(kind.plural, saved.id, found.where, reason)


def shown_id(value: JsonObject) -> str:
    given: Any = value.get("id")
    return given[:128] if isinstance(given, str) else ""


def explain(error: ValidationError | RecursionError) -> str:
    """The first fault and its place, without the value: it may be anything."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place or 'it'}: {first['msg']}"
