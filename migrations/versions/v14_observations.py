"""v14: superseded answers are kept; sessions tell more, and which service told what and when."""

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
    "source_is_proxy": sa.Boolean(),
    "source_is_vpn": sa.Boolean(),
    "source_is_tor": sa.Boolean(),
    "source_abuse_score": sa.Integer(),
    "source_classification": sa.Text(),
    "file_malicious": sa.Integer(),
    "file_label": sa.Text(),
    "passwords_breached": sa.Integer(),
    "passwords_novel": sa.Integer(),
    "provenance": JSON,
}


def upgrade() -> None:
    op.create_table(
        "observations",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fetched_at", MOMENT, primary_key=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("payload", JSON),
        sa.Column("feed", sa.String(64)),
    )
    op.add_column(
        "session_ips", sa.Column("known_scanner", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    for name, kind in COLUMNS.items():
        op.add_column("enriched_sessions", sa.Column(name, kind))


def downgrade() -> None:
    op.drop_column("session_ips", "known_scanner")
    for name in COLUMNS:
        op.drop_column("enriched_sessions", name)
    op.drop_table("observations")
