"""Requests to models are counted beside the runs that made them

Revision: 0006
After: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Processes of the version before go on writing rows without it.
    requests = sa.Column(
        "model_requests",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        nullable=False,
        server_default="0",
    )
    op.add_column("usage", requests)
    # Nobody knows how many there were: each run made about one.
    op.execute("UPDATE usage SET model_requests = runs")


def downgrade() -> None:
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.drop_column("model_requests")
