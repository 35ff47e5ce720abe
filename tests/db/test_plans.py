"""Which index a query takes: a list must not cost what was done before, elsewhere."""

import pytest
from sqlalchemy import text

from tests.runs.workers import opened
from threadloom.db.tx import Tx

PLANS = {
    "the runs of a thread": (
        "SELECT * FROM runs WHERE project_id = 'p' AND thread_id = 't' ORDER BY seq DESC LIMIT 21",
        "ix_runs_thread_id_project_id_seq",
    ),
    "the runs of a project": (
        "SELECT * FROM runs WHERE project_id = 'p' ORDER BY seq DESC LIMIT 21",
        "ix_runs_project_id_seq",
    ),
    "how many runs are worked on": (
        (
            "SELECT count(*) FROM runs WHERE project_id = 'p' "
            "AND status IN ('queued', 'in_progress', 'requires_action', 'cancelling') "
            "AND status IN ('queued', 'in_progress', 'cancelling')"
        ),
        "ix_runs_project_id",
    ),
    "what parts of uploads have": (
        "SELECT sum(bytes) FROM upload_parts WHERE project_id = 'p'",
        "ix_upload_parts_project_id",
    ),
    "what code left in its sandbox": (
        "SELECT sum(size) FROM sandbox_files WHERE project_id = 'p'",
        "ix_sandbox_files_project_id",
    ),
}


def plan(tx: Tx, query: str) -> str:
    return " ".join(row.detail for row in tx.session.execute(text(f"EXPLAIN QUERY PLAN {query}")))


@pytest.mark.parametrize(("query", "index"), PLANS.values(), ids=PLANS)
async def test_a_query_takes_its_index(sqlite_url: str, query: str, index: str) -> None:
    """SQLite decides without looking at the rows; PostgreSQL looks, and needs no telling."""
    async with opened(sqlite_url) as database:
        assert f"USING INDEX {index} " in await database.read(plan, query)
