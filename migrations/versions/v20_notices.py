"""v20: what operators are told by webhook."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v20"
down_revision = "v19"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("noticed_at", MOMENT, nullable=False),
        sa.Column("claimed_until", MOMENT),
        sa.Column("sent_at", MOMENT),
    )


def downgrade() -> None:
    op.drop_table("notices")
