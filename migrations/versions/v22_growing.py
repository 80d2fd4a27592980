"""v22: how far a growing day was read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v22"
down_revision = "v21"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "day_readings",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("reading", sa.Text()),
    )


def downgrade() -> None:
    op.drop_table("day_readings")
