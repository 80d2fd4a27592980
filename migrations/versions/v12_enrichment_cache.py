"""v12: the database tier of the enrichment cache (ADR-005)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v12"
down_revision = "v11"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "enrichment_cache",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("cache_value", JSON),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("fetched_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("accessed_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("hit_count", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("service", "cache_key", name="uq_enrichment_cache_service_key"),
    )
    op.create_index("ix_enrichment_cache_expires_at", "enrichment_cache", ["expires_at"])


def downgrade() -> None:
    op.drop_table("enrichment_cache")
