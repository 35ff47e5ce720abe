"""Migrations that are killed half-way: the next process finds the old schema, and migrates."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterable

from sqlalchemy import inspect

from threadloom.db.engine import create_engine
from threadloom.db.rows import Row

UPGRADE = """
import sys
from threadloom import faults
from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade
faults.arm(sys.argv[2])
upgrade(create_engine(sys.argv[1]))
"""


NEVER = 10**9


def migrate_killed_at(url: str, statements: Iterable[int]) -> int:
    """Migrate an empty database, killed at one of the statements after the other, until a process comes through.

    Answers with the number of deaths. Each must leave the schema as it was.
    """
    for deaths, at in enumerate(itertools.chain(statements, [NEVER])):
        fault = f"migration.statement:{at}:kill"
        done = subprocess.run([sys.executable, "-c", UPGRADE, url, fault], check=False)
        if done.returncode == 0:
            assert tables(url) == {*Row.metadata.tables, "alembic_version"}
            return deaths
        assert done.returncode == -signal.SIGKILL
        assert tables(url) == set(), f"killed at statement {at} it left half a schema"
    raise AssertionError("it never comes through")


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found
