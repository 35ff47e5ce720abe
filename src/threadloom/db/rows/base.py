"""What all tables have in common."""

from typing import ClassVar

from sqlalchemy import (
    ForeignKey,
    Index,
    MetaData,
    Text,
    TextClause,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from threadloom.db.columns import Serial
from threadloom.errors import NotFound

# A number that was given away is not given again, or a cursor would lead elsewhere.
NEVER_AGAIN = {"sqlite_autoincrement": True}


def index_where(condition: TextClause, *columns: str) -> Index:
    """An index of the few rows that somebody will look for."""
    return Index(None, *columns, sqlite_where=condition, postgresql_where=condition)


def index_where_set(*columns: str) -> Index:
    """An index of the rows whose last column is not NULL."""
    return index_where(text(f"{columns[-1]} IS NOT NULL"), *columns)


class Row(DeclarativeBase):
    """A table; constraints are named, so that a migration can drop them."""

    type_annotation_map: ClassVar = {str: Text, int: Serial}

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Numbered:
    """`seq` orders rows: ids are random, and several rows share a second."""

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int]


class Owned(Numbered):
    """An object of a project, reached only through a `ProjectTx`."""

    noun: ClassVar[str]

    @classmethod
    def missing(cls, object_id: str) -> NotFound:
        return NotFound(f"No {cls.noun} found with id '{object_id}'.")

    @declared_attr
    @classmethod
    def project_id(cls) -> Mapped[str]:
        return mapped_column(Text, ForeignKey("projects.id", ondelete="CASCADE"))


class Leased(Owned):
    """A row that workers claim: due from `due_at` on, fenced by `epoch`. NULL: nothing to do."""

    epoch: Mapped[int] = mapped_column(default=0)
    __tablename__: ClassVar[str]
    due_at: Mapped[float | None]
