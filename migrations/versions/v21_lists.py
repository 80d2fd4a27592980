"""v21: public lists, what each said when; the lists that held a session's source."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v21"
down_revision = "v20"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
OPEN = sa.text("seen_until IS NULL")


def upgrade() -> None:
    op.create_table(
        "address_lists",
        sa.Column("list", sa.String(40), primary_key=True),
        sa.Column("fetched_at", MOMENT, primary_key=True),
        sa.Column("says", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("entries", sa.Integer()),
        *(
            sa.Column(name, sa.Integer(), nullable=False, server_default="0")
            for name in ("came", "went", "bad_lines", "unroutable")
        ),
        sa.Column("size", sa.BigInteger()),
        sa.Column("etag", sa.Text()),
        sa.Column("last_modified", sa.Text()),
    )
    op.create_table(
        "list_entries",
        sa.Column("list", sa.String(40), primary_key=True),
        sa.Column("network", sa.Text(), primary_key=True),
        sa.Column("seen_from", MOMENT, primary_key=True),
        sa.Column("seen_until", MOMENT),
    )
    op.create_index(
        "ix_list_entries_open",
        "list_entries",
        ["list", "network"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.add_column("lookups", sa.Column("asked_for", sa.Text()))
    op.add_column("session_ips", sa.Column("scanner_list", sa.String(64)))
    op.add_column(
        "enriched_sessions", sa.Column("source_lists", sa.JSON().with_variant(JSONB(), "postgresql"))
    )


def downgrade() -> None:
    op.drop_column("enriched_sessions", "source_lists")
    op.drop_column("lookups", "asked_for")
    op.drop_column("session_ips", "scanner_list")
    op.drop_table("list_entries")
    op.drop_table("address_lists")
