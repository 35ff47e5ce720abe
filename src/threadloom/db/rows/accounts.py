"""Projects, their keys, and where deleted objects stood."""

from sqlalchemy import (
    ForeignKey,
    Index,
    LargeBinary,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from threadloom.db.columns import Json, Serial
from threadloom.db.rows.base import Numbered, Row
from threadloom.types.limits import LimitOverrides
from threadloom.types.shared import JsonObject


class ProjectRow(Numbered, Row):
    """What keys and objects belong to."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(unique=True)
    limits: Mapped[LimitOverrides] = mapped_column(Json(LimitOverrides), server_default="{}")


class ApiKeyRow(Numbered, Row):
    """A key: only its hash, and enough of it to be recognised by."""

    __tablename__ = "api_keys"

    project_id: Mapped[str] = mapped_column(Text, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    hint: Mapped[str]
    revoked_at: Mapped[int | None]
    limits: Mapped[LimitOverrides] = mapped_column(Json(LimitOverrides), server_default="{}")


class TombstoneRow(Row):
    """Where a deleted object stood: clients page on from ids that they have just deleted."""

    __tablename__ = "tombstones"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    seq: Mapped[int] = mapped_column(Serial)


class UsageRow(Row):
    """What one key's runs of one assistant and model used on one day (`2026-11-21`, UTC).

    Each process has a part of its own.
    """

    __tablename__ = "usage"

    project_id: Mapped[str] = mapped_column(
        Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    assistant_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(Serial, primary_key=True)
    runs: Mapped[int] = mapped_column(default=0)
    model_requests: Mapped[int] = mapped_column(default=0, server_default="0")
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)


class RateRow(Row):
    """What one process has counted for one key or project in one minute: processes add up each other's."""

    __tablename__ = "rates"

    scope: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[int] = mapped_column(Serial, primary_key=True)
    process: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(default=0)


class IdempotencyRow(Row):
    """A request with an `Idempotency-Key`: what it wrote, and its answer once there is one.

    `writes` are the results of its committed transactions, in order: whoever executes it again takes them from here. `holder`
    executes it until `due_at`.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    project_id: Mapped[str] = mapped_column(
        Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[int]
    fingerprint: Mapped[str]
    holder: Mapped[str]
    due_at: Mapped[float]
    writes: Mapped[list[JsonObject]] = mapped_column(Json(list[JsonObject]))
    status: Mapped[int | None]
    headers: Mapped[dict[str, str]] = mapped_column(Json(dict[str, str]))
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
