"""v16: what the first tier of the cache was given, so that what it lost can be told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v16"
down_revision = "v15"
branch_labels = None
depends_on = None

COLUMNS = {"l1_until": sa.DateTime(timezone=True), "l1_place": sa.Text()}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("enrichment_cache", sa.Column(name, kind))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("enrichment_cache", name)
