"""Faults in a request: of all that pydantic reports, the one that the hosted service would have told, in its words."""

from collections.abc import Mapping, Sequence
from typing import Any

from threadloom.api.validation.faults import Fault, Path, read_fault
from threadloom.api.validation.texts import (
    NOT_JSON,
    expected_kind,
    listed,
    shown,
    tell,
    without_article,
    wrong_type,
)
from threadloom.errors import InvalidRequest

__all__ = ["NOT_JSON", "Path", "explain", "shown"]

Branches = dict[Path, dict[str, list[Fault]]]


def explain(faults: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The first fault of a request in the hosted service's order and words."""
    read = [read_fault(fault) for fault in faults]
    if not read:
        return InvalidRequest()
    branches = tried_branches(read)
    fault = min(fitting(read, branches), key=rank)
    expected = expected_at(fault, branches)
    return wrong_type(fault, expected) if expected else tell(fault)


def rank(fault: Fault) -> int:
    """Missing keys come first, then unknown ones; `min` keeps the order of fields among equals."""
    if fault.type in {"missing", "union_tag_not_found", "missing_required_parameter"}:
        return 0
    return 1 if fault.type == "extra_forbidden" else 2


def tried_branches(faults: list[Fault]) -> Branches:
    """The faults of each branch of each union."""
    tried: Branches = {}
    for fault in faults:
        for place, branch in fault.branches:
            tried.setdefault(place, {}).setdefault(branch, []).append(fault)
    return tried


def fitting(faults: list[Fault], tried: Branches) -> list[Fault]:
    """Without the faults of branches that something else was meant for: pydantic reports all of them."""
    best = {place: best_branch(place, branches) for place, branches in tried.items()}
    return [
        fault for fault in faults if all(best[place] == branch for place, branch in fault.branches)
    ] or faults


def best_branch(place: Path, branches: Mapping[str, list[Fault]]) -> str:
    """The branch for this kind of value, else the one with the fewest faults, else the first."""
    return min(
        branches,
        key=lambda name: (
            any(other_kind(fault, place) for fault in branches[name]),
            len(branches[name]),
        ),
    )


def other_kind(fault: Fault, place: Path) -> bool:
    return fault.path == place and expected_kind(fault) is not None


def expected_at(fault: Fault, tried: Branches) -> str | None:
    """What would have been right here, when the fault is a value of the wrong kind."""
    branches = tried.get(fault.path, {}).values()
    kinds = [kind for faults in branches for each in faults if (kind := expected_kind(each))]
    if expected_kind(fault) is None or len(kinds) < 2:  # noqa: PLR2004
        return expected_kind(fault)
    first, *others = dict.fromkeys(kinds)
    return "one of " + listed([first, *(without_article(kind) for kind in others)], "or")
