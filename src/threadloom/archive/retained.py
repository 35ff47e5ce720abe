"""What `retention.*` would delete with the next sweep is not brought along: an import keeps the times of old objects."""

from threadloom.archive.importing import item_of
from threadloom.archive.report import Report
from threadloom.archive.saved import SavedThread
from threadloom.archive.saved_files import SavedFile, SavedStore
from threadloom.archive.spool import Spool
from threadloom.config import Retention


def leave_out_old(spool: Spool, report: Report, kept: Retention, now: int) -> None:
    """Report and forget it, with all that is in it."""
    if kept.threads is not None:
        for thread_id, location in spool.quiet_threads(now - kept.threads):
            report.skip(SavedThread.plural, thread_id, location, reason("threads"))
            spool.forget_whole(thread_id)
    if kept.files is not None:
        files = map(item_of, spool.of_kind(SavedFile.kind))
        for item in [one for one in files if one.saved.created_at < now - kept.files]:
            report.skip(SavedFile.plural, item.saved.id, item.location, reason("files"))
            spool.forget(item.saved.key)
    if kept.vector_stores is not None:
        before = now - kept.vector_stores
        stores = map(item_of, spool.of_kind(SavedStore.kind))
        for item in [one for one in stores if one.saved.values(now)["last_active_at"] < before]:
            report.skip(SavedStore.plural, item.saved.id, item.location, reason("vector_stores"))
            spool.forget_whole(item.saved.key)


def reason(name: str) -> str:
    return f"it is older than retention.{name}: the next sweep would delete it"
