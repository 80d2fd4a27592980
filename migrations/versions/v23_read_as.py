"""v23: how a list was to be read at each look, so that other settings are followed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v23"
down_revision = "v22"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("address_lists", sa.Column("read_as", sa.Text()))


def downgrade() -> None:
    op.drop_column("address_lists", "read_as")
