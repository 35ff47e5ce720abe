"""How many files vector stores and batches have: that is counted, not stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from threadloom.db.rows import VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.types.vector_stores import FileCounts


@dataclass(frozen=True)
class Tally:
    """How many files there are, and what they take."""

    counts: FileCounts
    usage_bytes: int


def tally(tx: Tx, group: InstrumentedAttribute[Any], ids: Sequence[str]) -> dict[str, Tally]:
    """The files of several stores or batches, counted in one query."""
    file = VectorStoreFileRow
    found = tx.session.execute(
        select(group, file.status, func.count(), func.sum(file.usage_bytes))
        .where(group.in_(ids))
        .group_by(group, file.status)
    )
    counts: dict[str, dict[str, int]] = {each: {"total": 0} for each in ids}
    usage = dict.fromkeys(ids, 0)
    for each, status, count, usage_bytes in found:
        counts[each][status] = count
        counts[each]["total"] += count
        usage[each] += int(usage_bytes)
    return {each: Tally(FileCounts(**counts[each]), usage[each]) for each in ids}
