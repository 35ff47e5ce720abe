"""The fault suite's short form: every nemesis for some seconds, one after the other, and no violation in the end."""

from pathlib import Path

import pytest

from tests.faults.arena import Layout
from tests.faults.history import Delivery, Fault, History, Request, Sample, Stock, read_history
from tests.faults.nemesis import Pace
from tests.faults.suite import ALONE, MILD, Size, play, possible

PACE = Pace(kill=1.5, freeze=3.0, lease=2.0, restart=2.0, last=1.0, hold=0.8)
SHORT = Size(
    Layout(apis=2, workers=2, lease=2.0, index="pgvector"),
    clients=6,
    seconds=2.5,
    words=8,
    pace=PACE,
)
ALONE_SHORT = Size(
    Layout(apis=1, workers=0, lease=2.0, database="sqlite"),
    clients=4,
    seconds=2.5,
    words=8,
    pace=PACE,
    settles=4.0,
)


@pytest.mark.timeout(600)
async def test_nothing_is_lost_whatever_fails(tmp_path: Path) -> None:
    """With pgvector."""
    nemeses = [name for name in possible() if name not in MILD]
    report = await play(nemeses, SHORT, tmp_path)
    assert report.violations == []
    history = read_history(tmp_path / "history.jsonl")
    assert {fault.nemesis for fault in history.of(Fault)} == set(nemeses)
    assert sum(r.status == 200 for r in history.of(Request)) > 50, "there was something to lose"
    assert any(run["status"] == "completed" for run in report.final.runs)
    assert takes_part(history)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_grows_when_the_file_is_held_or_the_power_goes(
    tmp_path: Path,
) -> None:
    """One process with SQLite and FAISS, which has to live with less and less."""
    report = await play(ALONE, ALONE_SHORT, tmp_path)
    assert report.violations == []
    assert {fault.nemesis for fault in report.history.of(Fault)} == set(ALONE)
    assert any(run["status"] == "completed" for run in report.final.runs)
    assert takes_part(report.history)
    assert [*report.history.of(Stock)]
    assert all(sample.files and sample.threads for sample in report.history.of(Sample))


def takes_part(history: History) -> bool:
    """Files are found, and webhooks arrive."""
    searches = [r for r in history.of(Request) if r.path.endswith("/search") and r.status == 200]
    deliveries = [*history.of(Delivery)]
    return (
        any((search.answer or {})["data"] for search in searches)
        and any(one.taken for one in deliveries)
        and not all(one.taken for one in deliveries)
    )
