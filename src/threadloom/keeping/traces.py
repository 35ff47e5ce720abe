"""What still tells of an object that was deleted: answers kept for requests sent again (docs/idempotency.md), events, and names of uploads.

They go a little later than the object: all rows are looked through again and again, in bounded steps.
"""

import re
from collections.abc import Callable, Sequence

import orjson
from sqlalchemy import delete, or_, select, tuple_, union_all, update

from threadloom.db.database import Database
from threadloom.db.rows import (
    AssistantRow,
    FileRow,
    IdempotencyRow,
    MessageRow,
    RunRow,
    RunStepRow,
    ThreadRow,
    TombstoneRow,
    UploadRow,
    VectorStoreRow,
)
from threadloom.db.tx import Tx
from threadloom.eventlog import forget_events
from threadloom.types.run_steps import MessageCreationDetails

NOBODY = ""
ROWS = 200
LARGE_ROWS = 8
"""Answers that are in memory at once: each may have a megabyte."""
ROUNDS = 20
ID = re.compile(rb"\b(?:asst_|thread_|msg_|run_|file[-_]|assistant-|vs_|upload_)[A-Za-z0-9_-]+")
"""Also those that imports bring along: Azure's files begin with `assistant-`."""
IMPORTED = (AssistantRow, ThreadRow, MessageRow, RunRow, FileRow, VectorStoreRow)
"""What may come back with the id that it had."""
Place = tuple[str, str]
START: Place = ("", "")
Step = Callable[[Tx, Place], Place]
"""Looks at some rows after a place and says where to go on, which is the start when this was the end."""


class Rounds:
    """Takes the same steps again and again, each time from where it stopped."""

    def __init__(self, database: Database, step: Step) -> None:
        self._database = database
        self._step = step
        self._place = START

    async def sweep(self) -> None:
        """A bounded share."""
        for _ in range(ROUNDS):
            self._place = await self._database.write(self._step, self._place)
            if self._place == START:
                break

    async def complete(self) -> None:
        """To the end."""
        await self.sweep()
        while self._place != START:
            await self.sweep()


def erase_answers(tx: Tx, after: Place) -> Place:
    """Answers that name an object that was deleted. A place is a project and a key."""
    row = IdempotencyRow
    name = tuple_(row.project_id, row.key)
    answers = tx.session.execute(
        select(row.project_id, row.key, row.writes, row.body)
        .where(name > after, or_(row.holder == NOBODY, row.due_at <= tx.clock.now()))
        .order_by(row.project_id, row.key)
        .limit(ROWS)
        .execution_options(yield_per=LARGE_ROWS)
    )
    with answers as rows:
        named = {
            (project_id, key): {
                each.decode()
                for part in (body or b"", orjson.dumps(writes))
                for each in ID.findall(part)
            }
            for project_id, key, writes, body in rows
        }
    gone = deleted_among(tx, [each for ids in named.values() for each in ids])
    if erased := [place for place, ids in named.items() if not gone.isdisjoint(ids)]:
        tx.session.execute(delete(row).where(name.in_(erased)))
    return next(reversed(named)) if len(named) == ROWS else START


def deleted_among(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Those that were deleted, and that no import has brought back."""
    gone: set[str] = set()
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), ROWS):
        some = TombstoneRow.id.in_(unique[start : start + ROWS])
        if deleted := tx.session.scalars(select(TombstoneRow.id).where(some)).all():
            back = union_all(*(select(one.id).where(one.id.in_(deleted)) for one in IMPORTED))
            gone |= {*deleted} - {*tx.session.scalars(back)}
    return gone


def erase_events(tx: Tx, after: Place) -> Place:
    """What runs have told of messages that were deleted before the run ended. A place is the time of an end and a run's number."""
    ended = tuple_(RunRow.kept_since, RunRow.seq)
    runs = tx.session.execute(
        select(RunRow.kept_since, RunRow.seq, RunRow.id)
        .where(RunRow.kept_since.is_not(None), ended > (float(after[0] or 0), int(after[1] or 0)))
        .order_by(RunRow.kept_since, RunRow.seq)
        .limit(ROWS)
    ).all()
    steps = tx.session.execute(
        select(RunStepRow.run_id, RunStepRow.step_details)
        .where(RunStepRow.run_id.in_([run_id for _, _, run_id in runs]))
        .where(RunStepRow.type == "message_creation")
    )
    told = {
        details.message_creation.message_id: run_id
        for run_id, details in steps
        if isinstance(details, MessageCreationDetails)
    }
    if gone := deleted_among(tx, list(told)):
        forget_events(tx, [told[message_id] for message_id in gone])
    return (repr(runs[-1][0]), str(runs[-1][1])) if len(runs) == ROWS else START


def erase_names(tx: Tx, after: Place) -> Place:
    """The names of uploads that came to nothing, or whose file is gone. A place is an upload's number."""
    rows = tx.session.execute(
        select(UploadRow.seq, UploadRow.status, UploadRow.filename, FileRow.id.is_(None))
        .outerjoin(FileRow, FileRow.id == UploadRow.file_id)
        .where(UploadRow.seq > int(after[0] or 0))
        .order_by(UploadRow.seq)
        .limit(ROWS)
    ).all()
    over = [
        seq
        for seq, status, filename, without_file in rows
        if status != "pending" and without_file and filename
    ]
    if over:
        tx.session.execute(update(UploadRow).where(UploadRow.seq.in_(over)).values(filename=""))
    return (str(rows[-1][0]), "") if len(rows) == ROWS else START


TRACES: Sequence[Step] = (erase_answers, erase_events, erase_names)
