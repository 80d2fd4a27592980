"""v13: the lookup queue and the shared state of the rate limiter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v13"
down_revision = "v12"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "lookups",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", MOMENT),
        sa.Column("valid_until", MOMENT),
        sa.Column("claimed_by", sa.Text()),
        sa.Column("claim_expires_at", MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_index("ix_lookups_open", "lookups", ["service", "next_attempt_at", "priority"])
    op.create_table(
        "service_limits",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("tat", sa.Float(53), nullable=False),
        sa.Column("cooldown_until", sa.Float(53), nullable=False),
        sa.Column("cooldown_reason", sa.Text()),
        sa.Column("penalty_until", sa.Float(53), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("configured_rate", sa.Float(53)),
        sa.Column("configured_burst", sa.Integer()),
        sa.Column("learned_rate", sa.Float(53)),
        sa.Column("learning", JSON),
        sa.Column("windows", JSON),
        sa.Column("recent", JSON),
        sa.Column("credential", sa.String(16)),
        sa.Column("credential_blocked_until", sa.Float(53), nullable=False),
        sa.Column("requests_total", sa.BigInteger(), nullable=False),
        sa.Column("limited_total", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("service_limits")
    op.drop_table("lookups")
