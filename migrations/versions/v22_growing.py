"""v22: how far a growing day was read, and what its enriched rows rest on."""

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
        sa.Column("sessions", sa.Integer()),
        sa.Column("reading", sa.Text()),
    )
    op.create_table(
        "written_days",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("known_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("written_days")
    op.drop_table("day_readings")
