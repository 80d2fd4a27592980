"""v14: superseded answers are kept, and sessions tell what is known of their files and passwords."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v14"
down_revision = "v13"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
COLUMNS = {
    "file_malicious": sa.Integer(),
    "file_label": sa.Text(),
    "passwords_breached": sa.Integer(),
    "passwords_novel": sa.Integer(),
}


def upgrade() -> None:
    op.create_table(
        "observations",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fetched_at", MOMENT, primary_key=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("payload", JSON),
    )
    for name, kind in COLUMNS.items():
        op.add_column("enriched_sessions", sa.Column(name, kind))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("enriched_sessions", name)
    op.drop_table("observations")
