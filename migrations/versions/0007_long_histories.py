"""Runs know how often they broke off; long histories cost no more than short ones

Revision: 0007
After: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IS_ACTIVE = sa.text("status IN ('queued', 'in_progress', 'requires_action', 'cancelling')")


def upgrade() -> None:
    # Processes of the version before go on writing rows without it.
    attempts = sa.Column(
        "attempts",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        nullable=False,
        server_default="0",
    )
    op.add_column("runs", attempts)
    # SQLite took the project's index for the lists of a thread, and read all of the project's runs.
    op.create_index(
        op.f("ix_runs_thread_id_project_id_seq"), "runs", ["thread_id", "project_id", "seq"]
    )
    op.drop_index(op.f("ix_runs_thread_id_seq"), table_name="runs")
    op.create_index(
        op.f("ix_runs_project_id"),
        "runs",
        ["project_id"],
        sqlite_where=IS_ACTIVE,
        postgresql_where=IS_ACTIVE,
    )
    op.create_index(op.f("ix_upload_parts_project_id"), "upload_parts", ["project_id"])
    op.create_index(op.f("ix_sandbox_files_project_id"), "sandbox_files", ["project_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_sandbox_files_project_id"), table_name="sandbox_files")
    op.drop_index(op.f("ix_upload_parts_project_id"), table_name="upload_parts")
    op.drop_index(op.f("ix_runs_project_id"), table_name="runs")
    op.create_index(op.f("ix_runs_thread_id_seq"), "runs", ["thread_id", "seq"])
    op.drop_index(op.f("ix_runs_thread_id_project_id_seq"), table_name="runs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("attempts")
