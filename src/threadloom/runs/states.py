"""The states of a run and the moves between them. `docs/runs.md` draws the table and explains each edge."""

from threadloom.db.rows import RunRow
from threadloom.types.runs import RunStatus

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    "queued": frozenset({"in_progress", "failed", "cancelling", "expired"}),
    "in_progress": frozenset(
        {"requires_action", "completed", "incomplete", "failed", "cancelling", "expired"}
    ),
    "requires_action": frozenset({"queued", "cancelling", "expired"}),
    "cancelling": frozenset({"cancelled"}),
}
CANCELLABLE = frozenset(status for status, to in TRANSITIONS.items() if "cancelling" in to)


class IllegalTransition(Exception):
    """A run cannot go there from where it is."""


def transition(run: RunRow, to: RunStatus) -> None:
    """The only place where a run's status is assigned."""
    if to not in TRANSITIONS.get(run.status, frozenset[RunStatus]()):
        raise IllegalTransition(f"{run.id}: {run.status} -> {to}")
    run.status = to
