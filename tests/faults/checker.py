"""The invariants, over a recorded history and what the database holds in the end.

I1 nothing acknowledged is lost · I2 every run ends · I3 one active run per thread · I4 one executor per run · I5 nothing
twice · I6 legal moves only · I7 streams and webhooks tell what is stored · I8 nobody sees another project's objects · I9 memory,
disk and all else that processes take are bounded · I0 refusals are refusals: no 500, and 429 and 503 say when to come again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults import answer_rules, resource_rules, run_rules, search_rules, told_rules
from tests.faults.case import Bounds, Case
from tests.faults.final import Final
from tests.faults.history import History


@dataclass(frozen=True)
class Violation:
    invariant: str
    what: str


def check(history: History, final: Final, bounds: Bounds | None = None) -> list[Violation]:
    """All violations; none is what we want."""
    case = Case(history, final, bounds or Bounds())
    return [Violation(name, what) for name, rule in RULES for what in rule(case)]


RULES: tuple[tuple[str, Callable[[Case], Iterator[str]]], ...] = (
    ("I0", answer_rules.refusals),
    ("I1", answer_rules.lost),
    ("I1", search_rules.unfound),
    ("I1", told_rules.untold),
    ("I2", run_rules.stuck),
    ("I3", run_rules.side_by_side),
    ("I4", run_rules.executors),
    ("I5", run_rules.twice),
    ("I5", told_rules.sent_unclaimed),
    ("I6", run_rules.moves),
    ("I7", answer_rules.streams),
    ("I7", told_rules.other_story),
    ("I8", answer_rules.strangers),
    ("I8", told_rules.told_to_strangers),
    ("I9", resource_rules.excess),
    ("I9", resource_rules.growth),
    ("I9", resource_rules.leftovers),
)
