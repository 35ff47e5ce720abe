"""What a project and its keys have used up, and how a client is told of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor

from sqlalchemy import func, select

from threadloom import usage
from threadloom.db.rows import IS_ACTIVE, RunRow
from threadloom.db.tx import ProjectTx, Tx
from threadloom.errors import ErrorType, RateLimited
from threadloom.types.limits import LimitOverrides
from threadloom.types.runs import RunStatus
from threadloom.usage import Sliding

WORKED_ON: tuple[RunStatus, ...] = ("queued", "in_progress", "cancelling")
UNTIL_A_RUN_ENDS = 1.0
"""Seconds after which a client may try again; nobody knows better."""
REACHED = (
    "Rate limit reached for {} in organization threadloom on {}: Limit {}, Used {}, Requested 1. Please try again in {}. "
    "Visit https://platform.openai.com/account/rate-limits to learn more."
)
NO_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
REQUESTS, TOKENS, RUNS = "requests per min (RPM)", "tokens per min (TPM)", "concurrent runs"


@dataclass(frozen=True)
class Allowance:
    """The limits of a project's runs, or of those of one of its keys."""

    limits: LimitOverrides
    key_id: str | None = None

    @property
    def is_bounded(self) -> bool:
        limits = self.limits
        return bool(limits.tokens_per_minute or limits.tokens_per_month or limits.concurrent_runs)


@dataclass(frozen=True)
class Finding:
    """What counts against an allowance: tokens of the minute, if they are limited, and why a run is refused, if it is."""

    tokens: Sliding | None
    refusal: RateLimited | None


def examine(tx: ProjectTx, allowance: Allowance) -> Finding:
    """Whether one more run may be created."""
    limits, key_id = allowance.limits, allowance.key_id
    subject, tokens = key_id or tx.project_id, None
    if limits.tokens_per_minute:
        tokens = usage.tokens_in_minute(tx, tx.project_id, key_id)
    if limits.tokens_per_month:
        spent = usage.tokens_in_month(tx, tx.project_id, key_id)
        if spent >= limits.tokens_per_month:
            return Finding(tokens, no_quota(tx))
    if tokens and limits.tokens_per_minute and (wait := tokens.wait(limits.tokens_per_minute)):
        refusal = reached(
            subject, TOKENS, limits.tokens_per_minute, tokens.used, wait, kind="tokens"
        )
        return Finding(tokens, refusal)
    if limits.concurrent_runs:
        active = active_runs(tx, key_id)
        if active >= limits.concurrent_runs:
            wait = UNTIL_A_RUN_ENDS
            return Finding(tokens, reached(subject, RUNS, limits.concurrent_runs, active, wait))
    return Finding(tokens, None)


def active_runs(tx: ProjectTx, key_id: str | None) -> int:
    """Runs of the project, or of one of its keys, that are queued or worked on."""
    found = select(func.count()).where(
        RunRow.project_id == tx.project_id, IS_ACTIVE, RunRow.status.in_(WORKED_ON)
    )
    if key_id is not None:
        found = found.where(RunRow.key_id == key_id)
    return tx.session.scalar(found) or 0


def due_runs(tx: Tx, limit: int) -> int:
    """How many runs of all projects wait for a worker, counted up to `limit`."""
    due = select(RunRow.seq).where(RunRow.due_at <= tx.clock.now()).limit(limit).subquery()
    return tx.session.scalar(select(func.count()).select_from(due)) or 0


def reached(
    subject: str,
    what: str,
    limit: int,
    used: float,
    wait: float,
    *,
    kind: ErrorType = "requests",
) -> RateLimited:
    text = REACHED.format(subject, what, limit, floor(used), shown(wait))
    return RateLimited(text, type=kind, retry_after=wait)


def no_quota(tx: Tx) -> RateLimited:
    """Nothing helps before the next month."""
    today = datetime.fromtimestamp(tx.clock.now(), UTC)
    first = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    left = (following - today).total_seconds()
    kind = "insufficient_quota"
    return RateLimited(NO_QUOTA, type=kind, code=kind, retry_after=left)


def rate_headers(kind: str, limit: int, standing: Sliding) -> dict[str, str]:
    """OpenAI's headers for `requests` or `tokens`."""
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(max(0, floor(limit - standing.used))),
        f"x-ratelimit-reset-{kind}": shown(standing.reset),
    }


def shown(seconds: float) -> str:
    """As OpenAI wrote durations: `120ms`, `1s`, `6m0s`, `1h0m0s`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
