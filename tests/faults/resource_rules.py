"""What processes take and leave behind: I9."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from tests.faults.case import Case, is_success
from tests.faults.history import Request, Sample, Stock

MEASURES = (("rss", "bytes of memory"), ("files", "open files"), ("threads", "threads"))
SLACK = {"rss": 64 << 20, "files": 40, "threads": 16}
"""What a process may take more in the last third of its life than in the second, beside a third of that."""
EMPTY = 192 << 20
"""Bytes of a cluster with its log and of processes' caches, before anything is stored."""


def excess(case: Case) -> Iterator[str]:
    """More than anything of ours ever needs."""
    bounds = case.bounds
    limits = {"rss": bounds.rss, "files": bounds.files, "threads": bounds.threads}
    for process, samples in by_process(case).items():
        for name, what in MEASURES:
            most = max(getattr(sample, name) for sample in samples)
            if most > limits[name]:
                yield f"{process} took {most} {what}"
    stocks = [*case.history.of(Stock)]
    for table in {table for stock in stocks for table in stock.waiting}:
        most = max(stock.waiting[table] for stock in stocks)
        if most > bounds.waiting:
            yield f"{most} rows of {table} waited"
    acknowledged = sum(map(is_success, case.history.of(Request)))
    kept = max((stock.database + stock.folder for stock in stocks), default=0)
    if kept > EMPTY + bounds.kept * acknowledged:
        yield f"{kept} bytes are kept of {acknowledged} requests"


def growth(case: Case) -> Iterator[str]:
    """What goes on growing under the same load would have no end."""
    for process, samples in by_process(case).items():
        if samples[-1].at - samples[0].at < case.bounds.settles:
            continue
        for name, what in MEASURES:
            values = [getattr(sample, name) for sample in samples]
            before, after = thirds(values)
            if after > before * 4 / 3 + SLACK[name]:
                yield f"{process} grew from {before:.0f} to {after:.0f} {what}"
    stocks = [*case.history.of(Stock)]
    if stocks and stocks[-1].at - stocks[0].at >= case.bounds.settles:
        for table in stocks[-1].waiting:
            before, after = thirds([stock.waiting.get(table, 0) for stock in stocks])
            if after > 2 * before + 200:
                yield f"rows of {table} that wait grew from {before:.0f} to {after:.0f}"


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the second and of the last third."""
    third = max(1, len(values) // 3)
    return median(values[third : -third or None] or values), median(values[-third:])


def by_process(case: Case) -> dict[str, list[Sample]]:
    """One that was started again is another."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in case.history.of(Sample):
        found[f"{sample.process} ({sample.pid})"].append(sample)
    return found


def leftovers(case: Case) -> Iterator[str]:
    """Bytes and chunks that nobody knows, or that somebody misses."""
    if case.final.objects is not None:
        known = {key for file in case.final.files for key in file["blobs"]}
        stray = {row["key"] for row in case.final.stray_blobs}
        if unknown := case.final.objects - known - stray:
            yield f"{len(unknown)} objects are stored of which nobody knows"
        if missing := known - case.final.objects:
            yield f"the bytes of {len(missing)} files are gone"
    owners = {row["seq"] for row in case.final.vector_store_files}
    owners |= {row["store_file_seq"] for row in case.final.stray_chunks}
    if lost := {row["store_file_seq"] for row in case.final.chunks} - owners:
        yield f"the chunks of {len(lost)} files are stored of which nobody knows"
