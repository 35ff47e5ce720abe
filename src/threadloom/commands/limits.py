"""`threadloom limits`: what projects and keys may use, and what they have used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from threadloom import usage
from threadloom.api.allowances import active_runs
from threadloom.commands.database import open_database
from threadloom.config import Settings
from threadloom.db.rows import ApiKeyRow, ProjectRow
from threadloom.db.tx import ProjectTx, Tx
from threadloom.errors import StartError
from threadloom.files.storage import stored_bytes
from threadloom.types.limits import NO_OVERRIDES, LimitOverrides

Given = Mapping[str, int | None]
"""Limits by name; None where nothing was said."""


@dataclass(frozen=True)
class Subject:
    """A project by its name, or a key by its id."""

    project: str | None = None
    key_id: str | None = None

    def row(self, tx: Tx) -> ProjectRow | ApiKeyRow:
        """Raises StartError."""
        if self.key_id is not None:
            row = tx.session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == self.key_id))
        else:
            row = tx.session.scalar(select(ProjectRow).where(ProjectRow.name == self.project))
        if row is None:
            what = f"key with id {self.key_id}" if self.key_id else f"project {self.project}"
            raise StartError(f"There is no {what}.")
        return row


@dataclass(frozen=True)
class InForce:
    """A limit, None where there is none or only the project's, and what counts against it where that is known."""

    limit: str
    value: int | None
    used: int | None


async def show(settings: Settings, subject: Subject) -> Sequence[InForce]:
    async with open_database(settings) as database:
        row = await database.read(subject.row)
        key_id = row.id if isinstance(row, ApiKeyRow) else None
        project_id = row.project_id if isinstance(row, ApiKeyRow) else row.id
        used = await database.project(project_id).read(used_by, key_id)
    # A key has limits of its own; what is not limited for it is limited for its project all the same.
    defaults = {} if key_id else settings.limits.model_dump(exclude_none=True)
    limits = defaults | row.limits.model_dump(exclude_none=True)
    return [InForce(name, limits.get(name), used.get(name)) for name in LimitOverrides.model_fields]


def used_by(tx: ProjectTx, key_id: str | None) -> dict[str, int]:
    """What a project has used, or one of its keys; requests are counted in memory."""
    used = {
        "tokens_per_minute": round(usage.tokens_in_minute(tx, tx.project_id, key_id).used),
        "concurrent_runs": active_runs(tx, key_id),
        "tokens_per_month": usage.tokens_in_month(tx, tx.project_id, key_id),
    }
    return used if key_id else used | {"storage": stored_bytes(tx)}


async def override(settings: Settings, subject: Subject, given: Given) -> None:
    """Change limits. Raises StartError."""
    async with open_database(settings) as database:
        await database.write(set_limits, subject, given)


def set_limits(tx: Tx, subject: Subject, given: Given) -> None:
    """Override what was given; 0 takes an override away. Raises StartError."""
    row = subject.row(tx)
    if isinstance(row, ApiKeyRow) and given.get("storage"):
        raise StartError("Files belong to projects: their storage cannot be limited by key.")
    row.limits = overridden(row.limits, given)


def overridden(limits: LimitOverrides, given: Given) -> LimitOverrides:
    changes = {name: value or None for name, value in given.items() if value is not None}
    return limits.model_copy(update=changes)


def limits_of(given: Given) -> LimitOverrides:
    """For a new key."""
    return overridden(NO_OVERRIDES, given)
