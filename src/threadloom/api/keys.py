"""API keys: 43 random characters behind `sk-`, of which only the SHA-256 is kept."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError

from threadloom.db.database import Database
from threadloom.db.rows import ApiKeyRow, ProjectRow
from threadloom.db.tx import Tx

DEFAULT_PROJECT = "default"
TRUSTED_FOR = 1.0
"""Seconds that a checked key is believed, so that a revoked one is dead within them in every process."""
MAX_REMEMBERED = 10_000
BY_HASH = select(ApiKeyRow.project_id).where(
    ApiKeyRow.sha256 == bindparam("sha256"), ApiKeyRow.revoked_at.is_(None)
)


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def masked(key: str) -> str:
    """Enough to recognise a key by, not enough to use it."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * len(key)  # noqa: PLR2004


class Keys:
    """Tells which project a key belongs to."""

    def __init__(self, database: Database, *, admin_key: str | None, default_project: str) -> None:
        self._database = database
        self._admin = sha256(admin_key) if admin_key else None
        self._default_project = default_project
        self._remembered: dict[str, tuple[str, float]] = {}

    async def project_of(self, key: str) -> str | None:
        """The key's project; None when no such key works."""
        digest = sha256(key)
        if self._admin and hmac.compare_digest(digest, self._admin):
            return self._default_project
        now = self._database.clock.now()
        project_id, until = self._remembered.get(digest, ("", 0.0))
        if until - TRUSTED_FOR <= now < until:
            return project_id
        found = await self._database.read(project_of_hash, digest)
        self._remembered.pop(digest, None)
        if found is not None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = (found, now + TRUSTED_FOR)
        return found


def project_of_hash(tx: Tx, digest: str) -> str | None:
    return tx.session.scalar(BY_HASH, {"sha256": digest})


def ensure_project(tx: Tx, name: str = DEFAULT_PROJECT) -> str:
    """The id of the project with this name, made if there is none."""
    project_id = tx.session.scalar(select(ProjectRow.id).where(ProjectRow.name == name))
    if project_id is not None:
        return project_id
    project_id = tx.ids.new("proj_")
    try:
        with tx.session.begin_nested():
            tx.session.add(ProjectRow(id=project_id, name=name, created_at=tx.now))
    except IntegrityError:  # another process that starts now was faster
        return tx.session.scalars(select(ProjectRow.id).where(ProjectRow.name == name)).one()
    return project_id


def create_key(tx: Tx, *, project: str, name: str) -> str:
    """Make a key; what this returns is the only time it is seen."""
    key = "sk-" + secrets.token_urlsafe(32)
    row = ApiKeyRow(
        id=tx.ids.new("key_"),
        project_id=ensure_project(tx, project),
        name=name,
        sha256=sha256(key),
        hint=masked(key),
        created_at=tx.now,
    )
    tx.session.add(row)
    return key


def first_key(tx: Tx) -> str | None:
    """A key for a server that has none yet."""
    if tx.session.scalar(select(ApiKeyRow.seq).limit(1)) is not None:
        return None
    return create_key(tx, project=DEFAULT_PROJECT, name="first")


def list_keys(tx: Tx) -> Sequence[tuple[ApiKeyRow, str]]:
    """All keys with the names of their projects."""
    statement = (
        select(ApiKeyRow, ProjectRow.name)
        .join(ProjectRow, ProjectRow.id == ApiKeyRow.project_id)
        .order_by(ApiKeyRow.seq)
    )
    return tx.session.execute(statement).all()


def revoke_key(tx: Tx, key_id: str) -> bool:
    """End a key; False when there is none with this id."""
    row = tx.session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == key_id))
    if row is not None and row.revoked_at is None:
        row.revoked_at = tx.now
    return row is not None
