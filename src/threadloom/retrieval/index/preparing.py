"""What is done for large segments in the background: joining them, a packed scan, a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from threadloom.retrieval.index.cache_files import CacheFiles
from threadloom.retrieval.index.segments import Part, Segment, merged
from threadloom.retrieval.index.snapshots import Policy, Snapshot
from threadloom.retrieval.index.vectors import scan_index


@dataclass(frozen=True)
class Task:
    """Parts of a store's snapshot that shall become one settled segment. The largest of a store is kept in a file."""

    store_id: str
    parts: Sequence[Part]
    is_kept: bool


def next_task(store_id: str, snapshot: Snapshot, policy: Policy) -> Task | None:
    parts = next(filter(policy.is_large, policy.works(snapshot)), None)
    if parts is None:
        return None
    weights = [part.weight for part in snapshot.parts]
    return Task(store_id, parts, 2 * sum(part.weight for part in parts) >= sum(weights))


def prepare(task: Task, files: CacheFiles, policy: Policy) -> Segment:
    """Runs in a thread for seconds."""
    if task.is_kept and (theirs := prepared_elsewhere(task, files)):
        return theirs
    segment = replace(merged(task.parts), settled=True)
    windows, dimensions = segment.vectors.shape
    if windows > policy.scan and dimensions % 2 == 0:
        segment = replace(segment, scan=scan_index(segment.vectors))
    return files.save(task.store_id, segment) if task.is_kept else segment


def prepared_elsewhere(task: Task, files: CacheFiles) -> Segment | None:
    """What another process has prepared and saved meanwhile, if it has all that this task is about."""
    live = {file for part in task.parts for file in part.live_files}
    ours = [part.segment.files for part in task.parts if part.segment.settled]
    for segment in files.load(task.store_id):
        if segment.files not in ours and live.issubset(segment.files):
            return segment
    return None
