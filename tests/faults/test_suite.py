"""The fault suite's short form: every nemesis for some seconds, one after the other, and no violation in the end."""

from pathlib import Path

import pytest

from tests.faults.history import Fault, Request, read_history
from tests.faults.nemesis import Pace
from tests.faults.suite import Size, play, possible

SHORT = Size(
    apis=2,
    workers=2,
    clients=6,
    seconds=2.5,
    lease=2.0,
    words=8,
    pace=Pace(kill=1.5, freeze=3.0, lease=2.0, restart=2.0, last=1.0),
)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_whatever_fails(tmp_path: Path) -> None:
    nemeses = possible()
    report = await play(nemeses, SHORT, tmp_path)
    assert report.violations == []
    history = read_history(tmp_path / "history.jsonl")
    assert {fault.nemesis for fault in history.of(Fault)} == set(nemeses)
    assert sum(r.status == 200 for r in history.of(Request)) > 50, "there was something to lose"
    assert any(run["status"] == "completed" for run in report.final.runs)
