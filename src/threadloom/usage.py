"""What was used: tokens, written down in the transaction in which a run ends, and requests, counted by each process.

Each process adds to rows of its own: nobody waits for another's commit, or for a process that was frozen in the middle of one. Whoever
reads adds them up.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import TextClause, delete, func, select, text

from threadloom.db.rows import RateRow, RunRow, UsageRow
from threadloom.db.tx import Tx

MINUTE = 60
WITHOUT_KEY = ""
PART = secrets.randbits(31)
"""This process's."""
ADD_USAGE = text(
    "INSERT INTO usage "
    "(project_id, day, key_id, assistant_id, model, part, runs, model_requests, prompt_tokens, completion_tokens) "
    "VALUES (:project_id, :day, :key_id, :assistant_id, :model, :part, 1, :turns, :prompt, :completion) "
    "ON CONFLICT (project_id, day, key_id, assistant_id, model, part) DO UPDATE SET runs = usage.runs + 1, "
    "model_requests = usage.model_requests + excluded.model_requests, "
    "prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens, "
    "completion_tokens = usage.completion_tokens + excluded.completion_tokens"
)
COUNT = (
    'INSERT INTO rates (scope, "window", process, used) VALUES (:scope, :window, :process, :used) '
    'ON CONFLICT (scope, "window", process) DO UPDATE SET used = '
)
ADD_COUNT: TextClause = text(COUNT + "rates.used + excluded.used")
SET_COUNT: TextClause = text(COUNT + "excluded.used")
Counts = Mapping[tuple[str, int], int]
"""How much was used, by scope and minute."""


@dataclass(frozen=True)
class Sliding:
    """A minute that slides: what of the last full minute still counts, and the minute that has begun.

    `now` is in seconds; all processes count the same minutes.
    """

    previous: int
    current: int
    now: float

    @property
    def _passed(self) -> float:
        return self.now % MINUTE

    @property
    def used(self) -> float:
        return self.previous * (1 - self._passed / MINUTE) + self.current

    def wait(self, limit: int, cost: int = 1) -> float:
        """Seconds until `cost` more fits; 0 when it fits now."""
        room = limit - cost
        if self.used <= room:
            return 0.0
        if self.current <= room:
            return MINUTE * (1 - (room - self.current) / self.previous) - self._passed
        share = max(0.0, room / self.current)
        return MINUTE - self._passed + MINUTE * (1 - share)

    @property
    def reset(self) -> float:
        """Seconds until nothing of it counts any more."""
        minutes = 2 if self.current else 1 if self.previous else 0
        return max(0.0, minutes * MINUTE - self._passed)


def minute_of(now: float) -> int:
    return int(now // MINUTE)


def day_of(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def record_usage(tx: Tx, run: RunRow) -> None:
    """Add an ended run to its day and minute."""
    spent = run.spent
    key_id = run.key_id or WITHOUT_KEY
    connection = (
        tx.session.connection()
    )  # the session would first write the run, which is not done with
    connection.execute(
        ADD_USAGE,
        {
            "project_id": run.project_id,
            "day": day_of(tx.clock.now()),
            "key_id": key_id,
            "assistant_id": run.assistant_id,
            "model": run.model,
            "part": PART,
            "turns": run.turns,
            "prompt": spent.prompt_tokens,
            "completion": spent.completion_tokens,
        },
    )
    if spent.total_tokens:
        count = {
            "scope": tokens_scope(run.project_id) + key_id,
            "window": minute_of(tx.clock.now()),
            "process": str(PART),
            "used": spent.total_tokens,
        }
        connection.execute(ADD_COUNT, count)


def tokens_scope(project_id: str) -> str:
    """What the scopes of a project's tokens begin with; the key's id follows."""
    return f"tokens:{project_id}:"


def tokens_in_minute(tx: Tx, project_id: str, key_id: str | None = None) -> Sliding:
    """What the runs of a project, or of one of its keys, spent that ended within a minute."""
    now = tx.clock.now()
    scope = tokens_scope(project_id)
    counted = (
        RateRow.scope.startswith(scope, autoescape=True)
        if key_id is None
        else RateRow.scope == scope + key_id
    )
    found = tx.session.execute(
        select(RateRow.window, func.sum(RateRow.used))
        .where(counted, RateRow.window.in_((minute_of(now) - 1, minute_of(now))))
        .group_by(RateRow.window)
    )
    used = {window: int(tokens) for window, tokens in found}
    return Sliding(used.get(minute_of(now) - 1, 0), used.get(minute_of(now), 0), now)


def tokens_in_month(tx: Tx, project_id: str, key_id: str | None = None) -> int:
    """What the runs of a project, or of one of its keys, spent in this month (UTC)."""
    spent = select(func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)).where(
        UsageRow.project_id == project_id, UsageRow.day >= day_of(tx.clock.now())[:8] + "01"
    )
    if key_id is not None:
        spent = spent.where(UsageRow.key_id == key_id)
    return int(tx.session.scalar(spent) or 0)


def exchange(tx: Tx, process: str, counts: Counts) -> Counts:
    """Write down what this process has counted, and answer with what all others have, of the last two minutes."""
    rows = [
        {"scope": scope, "window": window, "process": process, "used": used}
        for (scope, window), used in counts.items()
    ]
    if rows:
        tx.session.connection().execute(SET_COUNT, rows)
    others = tx.session.execute(
        select(RateRow.scope, RateRow.window, func.sum(RateRow.used))
        .where(RateRow.scope.startswith("requests:"))
        .where(RateRow.process != process, RateRow.window >= minute_of(tx.clock.now()) - 1)
        .group_by(RateRow.scope, RateRow.window)
    )
    return {(scope, window): int(used) for scope, window, used in others}


def forget(tx: Tx) -> None:
    """Minutes that count no more."""
    over = delete(RateRow).where(RateRow.window < minute_of(tx.clock.now()) - 2)
    tx.session.execute(over.execution_options(synchronize_session=False))
