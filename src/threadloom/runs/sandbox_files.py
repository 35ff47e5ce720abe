"""The files of a thread's sandbox: what code finds in it, what is kept of it, and what answers may link."""

import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, TypeVar

from sqlalchemy import select

from threadloom.blobs import Blobs
from threadloom.config import CodeInterpreter as Settings
from threadloom.db.database import Database
from threadloom.db.rows import AssistantRow, FileRow, RunRow, ThreadRow
from threadloom.db.tx import Tx
from threadloom.errors import BlobMissing
from threadloom.events import RunTx
from threadloom.files.actions import REFUSED_BY_OPENAI, is_alive
from threadloom.files.kept import CopiedFile, KeptFile, keep_files, kept_files, publish
from threadloom.files.strays import new_blob
from threadloom.runs.links import LinkedFile
from threadloom.sandbox.session import DATA, SandboxFile, SandboxFileRefused, Session
from threadloom.types.tools import ToolResources

Value = TypeVar("Value")
NAME: Literal["code_interpreter"] = "code_interpreter"
LONGEST_NAME = 200
"""Bytes; file systems take 255, and a name that is there already gets a part of an id."""
LONGEST_SUFFIX = 32
UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that end a line or cannot be written down."""
MOST_REMEMBERED = 10_000
NO_ROOM = "The sandbox's disk has no room for it."
TOO_MUCH = (
    "The files of this conversation are too large together. Remove some, or write smaller ones."
)


@dataclass(frozen=True)
class ThreadFile:
    """A file as code of the thread finds it: `path` is below `DATA`.

    `input_id` is that of the File which it came from, if it did; then it is at that path too. `is_kept` tells that code
    wrote it, or changed it since.
    """

    path: str
    file_id: str
    size: int
    blobs: Sequence[str]
    input_id: str | None = None
    is_kept: bool = False
    purpose: str = "assistants_output"


# What there is


def thread_files(tx: Tx, run: RunRow) -> list[ThreadFile]:
    """Inputs, those of the assistant before those of the thread, then what code wrote.

    What code made of an input is kept under the input's id, so that no file which code wrote is taken for an input.
    """
    kept = {file.path: file for file in kept_files(tx, run.thread_id)}
    inputs = input_files(tx, run)
    written = {path: file for path, file in kept.items() if path not in {one.id for one in inputs}}
    names = distinct_names(inputs, {PurePosixPath(path).parts[0] for path in written})
    files = [as_found(one, names[one.id], kept.get(one.id)) for one in inputs]
    files += [
        ThreadFile(path, one.id, one.size, one.blobs, is_kept=True) for path, one in written.items()
    ]
    return files


def as_found(given: FileRow, name: str, changed: KeptFile | None) -> ThreadFile:
    if changed:
        return ThreadFile(name, changed.id, changed.size, changed.blobs, given.id, is_kept=True)
    return ThreadFile(name, given.id, given.bytes, given.blobs, given.id, purpose=given.purpose)


def input_files(tx: Tx, run: RunRow) -> list[FileRow]:
    """The project's Files that code of this run sees, as they are now."""
    named = input_ids(tx, run)
    own = select(FileRow).where(
        FileRow.id.in_(named), FileRow.project_id == run.project_id, is_alive(tx)
    )
    found = {file.id: file for file in tx.session.scalars(own)}
    return [found[file_id] for file_id in named if file_id in found]


def input_ids(tx: Tx, run: RunRow) -> list[str]:
    """Those of the assistant as it is now, unless the run was given others, and those of the thread."""
    assistant = select(AssistantRow.tool_resources).where(AssistantRow.id == run.assistant_id)
    thread = select(ThreadRow.tool_resources).where(ThreadRow.id == run.thread_id)
    own = run.tool_resources if NAME in run.tool_resources else tx.session.scalar(assistant)
    return list(dict.fromkeys([*ids_in(own), *ids_in(tx.session.scalar(thread))]))


def ids_in(resources: ToolResources | None) -> list[str]:
    return (resources or {}).get(NAME, {}).get("file_ids", [])


# Names


def distinct_names(files: Iterable[FileRow], taken: Collection[str]) -> dict[str, str]:
    """A name for each File, by id. The second of one name gets a part of its id."""
    files = list(files)
    used = {*taken, *(file.id for file in files)}
    names: dict[str, str] = {}
    for file in files:
        name = safe_name(file.filename)
        wanted = (name, with_part(name, file.id[-8:]), with_part(name, file.id))
        names[file.id] = next((one for one in wanted if one not in used), file.id)
        used.add(names[file.id])
    return names


def safe_name(filename: str) -> str:
    """The same as one part of a path: on one line, neither hidden nor taken for an option, of bounded length."""
    encodable = filename.encode(errors="replace").decode()
    name = "".join(
        "_" if one == "/" or unicodedata.category(one) in UNSAFE else one for one in encodable
    )
    if not name or name[0] in ".-":
        name = f"_{name[1:]}"
    stem, suffix = parts_of(name)
    return cut(stem, LONGEST_NAME - len(suffix.encode())) + suffix


def with_part(name: str, part: str) -> str:
    stem, suffix = parts_of(name)
    return f"{stem}-{part}{suffix}"


def parts_of(name: str) -> tuple[str, str]:
    """Stem and suffix; what is too long is no suffix."""
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > LONGEST_SUFFIX:
        return name, ""
    return name.removesuffix(suffix), suffix


def cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


# What answers link


def linkable_files(tx: Tx, run: RunRow, *, of_all_purposes: bool) -> list[LinkedFile]:
    """What an answer may link, each by its path below `DATA`: files that a client can then download."""
    linkable: list[LinkedFile] = []
    for file in thread_files(tx, run):
        if file.purpose in REFUSED_BY_OPENAI and not of_all_purposes:
            continue
        paths = dict.fromkeys(filter(None, (file.path, file.input_id)))
        linkable += [LinkedFile(path, file.file_id) for path in paths]
    return linkable


def publish_file(tx: RunTx, file_id: str) -> None:
    """Make the File that a link leads to, unless it is there."""
    for file in thread_files(tx, tx.run):
        if file.file_id == file_id and file.is_kept:
            publish(tx, tx.run.thread_id, file_id, safe_name(PurePosixPath(file.path).name))


# In and out


@dataclass(frozen=True)
class Brought:
    """What is in a sandbox before code runs; `refused` are sentences about what is not."""

    files: Sequence[ThreadFile]
    there: Collection[str]
    refused: Sequence[str]


@dataclass
class Taken:
    """What is known of a sandbox's files after code ran. `gone` are paths that are kept no more."""

    copied: list[CopiedFile] = field(default_factory=list[CopiedFile])
    shown: list[str] = field(default_factory=list[str])
    """The paths of the copies, as code sees them."""
    gone: set[str] = field(default_factory=set[str])
    refused: list[str] = field(default_factory=list[str])

    def record(self, tx: RunTx) -> None:
        """Keep the copies with the run's thread."""
        keep_files(
            tx,
            project_id=tx.run.project_id,
            thread_id=tx.run.thread_id,
            files=self.copied,
            gone=self.gone,
        )


class SandboxFiles:
    """Carries files between blobs and sandboxes."""

    def __init__(self, database: Database, blobs: Blobs, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._placed: dict[str, dict[str, str]] = {}
        """Which input this process put where, by thread: without it, or elsewhere, an input is put there again."""

    async def bring(self, session: Session, run: RunRow) -> Brought:
        """Put into a session what is not there yet. Raises SandboxLost and StorageUnavailable."""
        files = await self._database.read(thread_files, run)
        placed = {} if session.fresh else self._placed.get(run.thread_id, {})
        remember(self._placed, run.thread_id, placed)
        there = set[str]()
        if (files or placed) and not session.fresh:
            listing = await session.files()
            there = {one.path for one in listing}
            await take_away(session, files, there, placed)
            if listing.complete:
                await unlink_removed(session, there, placed)
        refused: list[str] = []
        room = self._settings.disk
        for file in files:
            if not is_missing(file, session, there, placed):
                continue
            try:
                await self._put(session, file, room)
            except (SandboxFileRefused, BlobMissing) as error:
                refused.append(f"{DATA}/{file.path} could not be put into the sandbox: {error}")
                continue
            room -= file.size
            there.add(file.path)
            if file.input_id:
                placed[file.path] = file.input_id
        return Brought(files, there, refused)

    async def _put(self, session: Session, file: ThreadFile, room: int) -> None:
        """What cannot fit is not even sent."""
        if file.size > room:
            raise SandboxFileRefused(NO_ROOM)
        async with aclosing(self._blobs.read(file.blobs)) as pieces:
            # Its bytes may be missing, which is better known before any is sent.
            first = await anext(pieces, b"")

            async def all_pieces() -> AsyncIterator[bytes]:
                if first:
                    yield first
                async for piece in pieces:
                    yield piece

            await session.put(file.path, file.size, all_pieces())
        if file.input_id and file.input_id != file.path:
            await session.link(file.input_id, file.path)

    async def take(
        self, session: Session, brought: Brought, changed: Sequence[SandboxFile], taken: Taken
    ) -> None:
        """Copy new and changed files out, into `taken` as they come. Raises SandboxLost and StorageUnavailable.

        Those beyond `max_files` are named again by the next call. Until then an older copy is no more kept than linked.
        """
        inputs = {file.path: file.input_id for file in brought.files if file.input_id}
        paths = [inputs.get(file.path, file.path) for file in changed]
        most = self._settings.max_files
        kept = {file.input_id or file.path for file in brought.files if file.is_kept}
        taken.gone |= await self._gone(session, brought) | kept.intersection(paths[most:])
        room = self._settings.disk - size_kept(brought.files, taken.gone.union(paths))
        for file, kept_as in zip(changed[:most], paths, strict=False):
            try:
                taken.copied.append(
                    CopiedFile(kept_as, file.size, await self._copy(session, file, room))
                )
            except SandboxFileRefused as error:
                taken.gone.add(kept_as)
                taken.refused.append(f"{DATA}/{file.path} was not kept: {error}")
            else:
                taken.shown.append(file.path)
                room -= file.size

    async def _copy(self, session: Session, file: SandboxFile, room: int) -> str:
        if file.size > room:
            raise SandboxFileRefused(TOO_MUCH)
        async with (
            new_blob(self._database, self._blobs) as key,
            aclosing(session.get(file)) as pieces,
        ):
            await self._blobs.write(key, pieces)
        return key

    async def _gone(self, session: Session, brought: Brought) -> set[str]:
        """What was kept, was there, and was removed by the code."""
        kept = [file for file in brought.files if file.is_kept and file.path in brought.there]
        if not kept:
            return set()
        listing = await session.files()
        if not listing.complete:
            return set()
        there = {one.path for one in listing}
        return {file.input_id or file.path for file in kept if file.path not in there}


async def take_away(
    session: Session, files: Sequence[ThreadFile], there: set[str], placed: dict[str, str]
) -> None:
    """Remove what was put there and is no input any more, or has another name now. What code wrote stays."""
    now = {(file.path, file.input_id) for file in files}
    written = {file.path for file in files if file.input_id is None}
    for path, input_id in list(placed.items()):
        if (path, input_id) in now or written.intersection((path, input_id)):
            continue
        with suppress(SandboxFileRefused):  # code has made something else of it
            await session.remove(path)
        await unlink(session, input_id, there)
        there.discard(path)
        del placed[path]


async def unlink_removed(session: Session, there: Collection[str], placed: dict[str, str]) -> None:
    """Inputs that code has removed are gone under their ids too."""
    for path, input_id in placed.items():
        if path not in there:
            await unlink(session, input_id, there)


async def unlink(session: Session, input_id: str, there: Collection[str]) -> None:
    """Links are not listed; what is listed under an id is a file."""
    if input_id not in there:
        with suppress(SandboxFileRefused):
            await session.remove(input_id)


def remember(memory: dict[str, Value], thread_id: str, value: Value) -> None:
    """Note something of a thread, and forget the thread that was not looked after for longest."""
    memory.pop(thread_id, None)
    memory[thread_id] = value
    if len(memory) > MOST_REMEMBERED:
        del memory[next(iter(memory))]


def size_kept(files: Iterable[ThreadFile], renewed: Collection[str]) -> int:
    """What is kept of a thread, in bytes, other than of these paths."""
    kept = (file for file in files if file.is_kept)
    return sum(file.size for file in kept if (file.input_id or file.path) not in renewed)


def is_missing(
    file: ThreadFile, session: Session, there: Collection[str], placed: dict[str, str]
) -> bool:
    """Whether a file has to be put into the session."""
    if session.fresh:
        return True
    if file.input_id is None:
        return False  # code wrote it there, or it came when the session was fresh
    if placed.get(file.path) == file.input_id:
        return False  # it is there, or code removed it
    return not (file.is_kept and file.path in there)
