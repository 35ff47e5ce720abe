"""API keys: 43 random characters behind `sk-`, of which only the SHA-256 is kept."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError

from threadloom.db.database import Database
from threadloom.db.rows import ApiKeyRow, ProjectRow
from threadloom.db.tx import Tx
from threadloom.types.limits import NO_OVERRIDES, LimitOverrides

DEFAULT_PROJECT = "default"
TRUSTED_FOR = 1.0
"""Seconds that a checked key is believed, so that a revoked one is dead within them in every process."""
LOOK_AHEAD = 0.5
"""Seconds before that end from which on a key in use is looked up again, so that no request waits for it."""
MAX_REMEMBERED = 10_000
ADMIN = "admin"
"""The id of the key that is a setting and not a row."""
BY_HASH = (
    select(ApiKeyRow.project_id, ApiKeyRow.id, ProjectRow.limits, ApiKeyRow.limits)
    .join(ProjectRow, ProjectRow.id == ApiKeyRow.project_id)
    .where(ApiKeyRow.sha256 == bindparam("sha256"), ApiKeyRow.revoked_at.is_(None))
)


@dataclass(frozen=True)
class Caller:
    """Whose request it is, and the limits that were set for the project and for the key alone."""

    project_id: str
    key_id: str
    project: LimitOverrides = NO_OVERRIDES
    key: LimitOverrides = NO_OVERRIDES


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def masked(key: str) -> str:
    """Enough to recognise a key by, not enough to use it."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * len(key)  # noqa: PLR2004


class Keys:
    """Tells whose a key is."""

    def __init__(self, database: Database, *, admin_key: str | None, default_project: str) -> None:
        self._database = database
        self._admin = sha256(admin_key) if admin_key else None
        self._default_project = default_project
        self._remembered: dict[str, tuple[Caller, float]] = {}
        self._asked: dict[str, asyncio.Future[Caller | None]] = {}

    async def caller(self, key: str) -> Caller | None:
        """Whose the key is; None when no such key works."""
        digest = sha256(key)
        if self._admin and hmac.compare_digest(digest, self._admin):
            digest = ADMIN
        now = self._database.clock.now()
        found, until = self._remembered.get(digest, (None, 0.0))
        if until - TRUSTED_FOR <= now < until:
            if until - now < LOOK_AHEAD:
                self._ask(digest)
            return found
        return await asyncio.shield(self._ask(digest))

    def _ask(self, digest: str) -> "asyncio.Future[Caller | None]":
        """A key is looked up once for all requests that come meanwhile."""
        if (asked := self._asked.get(digest)) is None:
            asked = asyncio.get_running_loop().create_task(self._look_up(digest), context=Context())
            asked.add_done_callback(lambda done: done.exception())  # perhaps nobody waits for it
            self._asked[digest] = asked
        return asked

    async def _look_up(self, digest: str) -> Caller | None:
        now = self._database.clock.now()
        try:
            if digest == ADMIN:
                found = await self._database.read(admin_caller, self._default_project)
            else:
                found = await self._database.read(caller_of_hash, digest)
        finally:
            del self._asked[digest]
        self._remembered.pop(digest, None)
        if found is not None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = (found, now + TRUSTED_FOR)
        return found


def caller_of_hash(tx: Tx, digest: str) -> Caller | None:
    row = tx.session.execute(BY_HASH, {"sha256": digest}).one_or_none()
    return None if row is None else Caller(*row)


def admin_caller(tx: Tx, project_id: str) -> Caller:
    limits = tx.session.scalar(select(ProjectRow.limits).where(ProjectRow.id == project_id))
    return Caller(project_id, ADMIN, limits or NO_OVERRIDES)


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


def create_key(tx: Tx, *, project: str, name: str, limits: LimitOverrides = NO_OVERRIDES) -> str:
    """Make a key; what this returns is the only time it is seen."""
    key = "sk-" + secrets.token_urlsafe(32)
    row = ApiKeyRow(
        id=tx.ids.new("key_"),
        project_id=ensure_project(tx, project),
        name=name,
        sha256=sha256(key),
        hint=masked(key),
        created_at=tx.now,
        limits=limits,
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
