"""Which processes run."""

from typing import Literal

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from threadloom.db.rows.base import Row

ProcessKind = Literal["api", "worker", "both"]


class ProcessRow(Row):
    """A process that serves the API, drives runs, or both. It is taken for lost when it was not seen for a while."""

    __tablename__ = "processes"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[ProcessKind] = mapped_column(Text)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    started_at: Mapped[float]
    seen_at: Mapped[float]
