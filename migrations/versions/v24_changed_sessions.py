"""v24: which sessions changed that other tables do not follow yet (any may have); two indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v24"
down_revision = "v23"
branch_labels = None
depends_on = None

_INDEXES = {"ix_sessions_files": "file_hashes <> '[]'", "ix_sessions_passwords": "passwords_sha1 <> '[]'"}


def upgrade() -> None:
    op.create_table(
        "changed_sessions",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("follower", sa.String(32), primary_key=True),
        sa.Column("token", sa.String(16), primary_key=True),
        sa.Column("sensor", sa.Text(), primary_key=True),
        sa.Column("session_id", sa.Text(), primary_key=True),
        sa.Column("src_ip", sa.Text(), primary_key=True),
    )
    for name, those in _INDEXES.items():
        some = sa.text(those)
        op.create_index(name, "sessions", ["day"], sqlite_where=some, postgresql_where=some)
    for follower in ("session_ips", "enriched_sessions"):
        op.execute(
            "INSERT INTO changed_sessions (day, follower, token, sensor, session_id, src_ip) "
            f"SELECT DISTINCT day, '{follower}', '', '', '', '' FROM sessions"
        )


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name, "sessions")
    op.drop_table("changed_sessions")
