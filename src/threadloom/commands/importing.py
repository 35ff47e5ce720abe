"""`threadloom import`: from an archive, or from another server."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from threadloom.api.keys import ensure_project
from threadloom.archive.contents import ArchivedContents, Contents, Storage
from threadloom.archive.entries import DAMAGED, open_entries
from threadloom.archive.importing import Import
from threadloom.archive.reading import read_all
from threadloom.archive.remote import Assistants, Copy, RemoteContents
from threadloom.archive.report import Report
from threadloom.archive.retained import leave_out_old
from threadloom.archive.spool import Spool, open_spool
from threadloom.blobs import open_blobs
from threadloom.commands.database import make_database
from threadloom.commands.projects import id_of_project
from threadloom.config import Retention, Settings
from threadloom.db.database import Database
from threadloom.errors import StartError, Unavailable

NO_PROJECT = ""


@dataclass(frozen=True)
class Remote:
    """Another Assistants server. `threads` is a file with the ids of threads, because OpenAI does not list them."""

    url: str
    style: str
    version: str
    key: SecretStr
    threads: Path | None


async def from_path(settings: Settings, path: Path, *, project: str, dry_run: bool) -> Report:
    """Raises StartError."""
    with open_entries(path) as entries:
        async with prepared(settings, project, dry_run=dry_run) as work:
            try:
                await asyncio.to_thread(
                    read_all,
                    entries,
                    work.spool,
                    work.report,
                    int(work.storage.database.clock.now()),
                )
            except DAMAGED as error:
                raise StartError(f"Cannot read {path}: {error}") from None
            return await work.run(ArchivedContents(entries, work.spool))


async def from_api(settings: Settings, remote: Remote, *, project: str, dry_run: bool) -> Report:
    """Raises StartError."""
    thread_ids = None if remote.threads is None else read_ids(remote.threads)
    async with (
        Assistants.connected(remote.url, remote.style, remote.version, remote.key) as server,
        prepared(settings, project, dry_run=dry_run) as work,
    ):
        now = int(work.storage.database.clock.now())
        with work.bar("Reading", None) as advance:
            await Copy(server, work.spool, work.report, now, advance).everything(thread_ids)
        return await work.run(RemoteContents(server))


def read_ids(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"Cannot read {path}: {error}") from None
    return [line.strip() for line in lines if line.strip()]


@dataclass(frozen=True)
class Work:
    """An import that is about to begin."""

    spool: Spool
    storage: Storage
    report: Report
    retention: Retention

    async def run(self, contents: Contents) -> Report:
        now = int(self.storage.database.clock.now())
        leave_out_old(self.spool, self.report, self.retention, now)
        with self.bar("Importing", self.spool.count()) as advance:
            job = Import(self.spool, contents, self.storage, self.report, advance)
            try:
                await job.run()
            except Unavailable as error:
                raise StartError(f"{error.message} Then run the same command again.") from None
        return self.report

    def bar(self, text: str, total: int | None) -> "Bar":
        return Bar(text, total)


class Bar:
    """Progress on a terminal, on standard error; nothing elsewhere."""

    def __init__(self, text: str, total: int | None) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(text, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, count: int) -> None:
        self._progress.advance(self._task, count)


@asynccontextmanager
async def prepared(settings: Settings, project: str, *, dry_run: bool) -> AsyncGenerator[Work]:
    async with make_database(settings) as database:
        project_id = await project_of(database, project, dry_run=dry_run)
        storage = Storage(
            database,
            database.project(project_id),
            open_blobs(settings),
            settings.files.max_bytes,
        )
        with open_spool(settings.data_dir) as spool:
            yield Work(spool, storage, Report(project, dry_run), settings.retention)


async def project_of(database: Database, name: str, *, dry_run: bool) -> str:
    """The project's id; a dry run makes none."""
    if dry_run:
        return await database.read(id_of_project, name) or NO_PROJECT
    return await database.write(ensure_project, name)


def explained(report: Report, most: int) -> Iterator[str]:
    """What people should know of an import beside its numbers."""
    for one in report.skipped[:most]:
        yield " ".join(filter(None, ("Skipped", one.id, f"({one.where}):", one.reason + ".")))
    if (more := report.skipped_by_kind.total() - most) > 0:
        yield f"… and {more} more: --json has the reasons."
    for text in report.notes[:most]:
        yield text + "."
    if (more := len(report.notes) - most) > 0:
        yield f"… and {more} more like this."
    if named := len(report.missing) + report.unlisted_missing:
        examples = ", ".join([*report.missing][:3])
        yield f"{named} ids are named that are neither here nor there, such as {examples}. The objects that name them are kept as they are."
