"""A process that is killed in the midst of a migration leaves nothing of it behind."""

from tests.faults.migrating import migrate_killed_at

DEATHS = (20, 60)
"""Statements: of the first step, and of a later one."""


def test_a_migration_that_was_killed_is_done_again(empty_url: str) -> None:
    assert migrate_killed_at(empty_url, DEATHS) == len(DEATHS)
