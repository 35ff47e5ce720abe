"""What an import did, and what it did not and why."""

from collections import Counter
from dataclasses import dataclass, field

from threadloom.types.shared import JsonObject

LISTED = 10_000
"""Entries that a report names; the rest is counted."""


@dataclass(frozen=True)
class Skipped:
    """What was not imported; `id` is empty where there is none."""

    kind: str
    id: str
    where: str
    reason: str


@dataclass
class Report:
    """What an import did, by the plural of each kind. `missing` are ids that were named and are nowhere, and how often."""

    project: str
    dry_run: bool
    imported: Counter[str] = field(default_factory=Counter[str])
    present: Counter[str] = field(default_factory=Counter[str])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    skipped_by_kind: Counter[str] = field(default_factory=Counter[str])
    missing: Counter[str] = field(default_factory=Counter[str])
    unlisted_missing: int = 0
    notes: list[str] = field(default_factory=list[str])

    def skip(self, kind: str, object_id: str, where: str, reason: str) -> None:
        self.skipped_by_kind[kind] += 1
        if len(self.skipped) < LISTED:
            self.skipped.append(Skipped(kind, object_id, where, reason))

    def miss(self, object_id: str) -> None:
        """An object that is kept names one that is nowhere."""
        if object_id in self.missing or len(self.missing) < LISTED:
            self.missing[object_id] += 1
        else:
            self.unlisted_missing += 1

    def note(self, text: str) -> None:
        if len(self.notes) < LISTED:
            self.notes.append(text)

    def as_json(self) -> JsonObject:
        """The whole report as one document."""
        return {
            "object": "import",
            "project": self.project,
            "dry_run": self.dry_run,
            "imported": dict(self.imported),
            "present": dict(self.present),
            "skipped": dict(self.skipped_by_kind),
            "reasons": [vars(one) for one in self.skipped],
            "missing": dict(self.missing),
            "notes": self.notes,
        }
