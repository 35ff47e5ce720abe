"""What PostgreSQL says while rows are copied is told as of any other statement, so that a full disk is a 507 and no 500."""

import psycopg
import pytest
from psycopg.errors import DiskFull, UndefinedTable
from sqlalchemy.exc import DBAPIError

from tests.support.postgres import Postgres
from threadloom.db.failures import refusal
from threadloom.errors import NoRoom
from threadloom.retrieval.index.pgvector_table import copy_windows, copying


def test_an_error_of_a_copy_is_one_of_the_database(postgres: Postgres) -> None:
    with postgres.database() as url, psycopg.connect(url) as connection:
        with pytest.raises(DBAPIError) as caught:
            copy_windows(connection, "vs_1", [])  # no server has made the table
        assert isinstance(caught.value.orig, UndefinedTable)
        connection.rollback()


def test_a_disk_that_is_full_while_rows_are_copied_is_told() -> None:
    with pytest.raises(DBAPIError) as caught, copying():
        raise DiskFull("no space left on device")
    assert isinstance(refusal(caught.value), NoRoom)
