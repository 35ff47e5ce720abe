"""What errors of the database mean to those who asked."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError

from threadloom.db import failures
from threadloom.db.failures import ConnectionLost, NotLocked, before_commit, patiently, refusal
from threadloom.errors import ApiError, DatabaseUnavailable, NoRoom


def of(error: Exception, *, cut: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", None, error, connection_invalidated=cut)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionLost(), DatabaseUnavailable),
        (NotLocked(), DatabaseUnavailable),
        (of(psycopg.InterfaceError(), cut=True), DatabaseUnavailable),
        (of(psycopg.OperationalError("refused")), DatabaseUnavailable),
        (of(errors.QueryCanceled()), DatabaseUnavailable),
        (of(errors.ReadOnlySqlTransaction()), DatabaseUnavailable),
        (of(errors.DiskFull()), NoRoom),
        (of(errors.UndefinedTable()), type(None)),
        (InvalidRequestError("no column"), type(None)),
    ],
    ids=repr,
)
def test_what_passes_is_told_as_unavailable_and_what_is_wrong_is_not(
    error: SQLAlchemyError, told: type[ApiError | None]
) -> None:
    assert type(refusal(error)) is told


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (of(psycopg.OperationalError("refused")), ConnectionLost),
        (of(errors.AdminShutdown()), ConnectionLost),
        (of(errors.TooManyConnections()), ConnectionLost),
        (of(psycopg.InterfaceError(), cut=True), ConnectionLost),
        (of(errors.DeadlockDetected()), NotLocked),
        (of(errors.DiskFull()), DBAPIError),
        (of(errors.UniqueViolation()), DBAPIError),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_done_again(error: DBAPIError, raised: type[SQLAlchemyError]) -> None:
    with pytest.raises(SQLAlchemyError) as failed, before_commit():
        raise error
    assert type(failed.value) is raised


@pytest.mark.parametrize("lost", [ConnectionLost, NotLocked])
async def test_a_database_that_stays_away_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, lost: type[SQLAlchemyError]
) -> None:
    tries: list[int] = []

    async def attempt() -> None:
        tries.append(len(tries))
        raise lost

    monkeypatch.setattr(failures, "PATIENCE", 0.01)
    monkeypatch.setattr(failures, "PAUSE", 0.02)
    with pytest.raises(lost):
        await patiently(attempt)
    assert tries == [0, 1]
