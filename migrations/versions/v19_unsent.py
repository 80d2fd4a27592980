"""v19: the slots whose requests are not known to have left yet, for which the next one waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v19"
down_revision = "v18"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("service_limits", sa.Column("unsent", sa.JSON().with_variant(JSONB(), "postgresql")))


def downgrade() -> None:
    op.drop_column("service_limits", "unsent")
