"""v18: campaigns, and the artefacts that join their sessions; what stands is to be looked through."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v18"
down_revision = "v17"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
ID = sa.String(16)

SESSION_CAMPAIGNS = """
    CREATE VIEW session_campaigns AS
    SELECT s.sensor, s.session_id, s.started_at, s.day, s.src_ip, a.campaign_id
    FROM session_artefacts AS s JOIN artefact_sets AS a ON a.set_id = s.set_id
    WHERE a.campaign_id IS NOT NULL
"""
INDEXES = {
    "ix_artefacts_sessions": ("artefacts", ["sessions"]),
    "ix_artefacts_campaign": ("artefacts", ["campaign_id", "sessions"]),
    "ix_artefact_sets_campaign_id": ("artefact_sets", ["campaign_id"]),
    "ix_artefacts_in_sets_artefact_id": ("artefacts_in_sets", ["artefact_id"]),
    "ix_session_artefacts_day": ("session_artefacts", ["day"]),
    "ix_session_artefacts_src_ip": ("session_artefacts", ["src_ip"]),
    "ix_session_artefacts_set": ("session_artefacts", ["set_id", "sensor", "src_ip"]),
    "ix_campaigns_last_seen": ("campaigns", ["last_seen"]),
    "ix_campaigns_merged_into": ("campaigns", ["merged_into"]),
}


def upgrade() -> None:
    op.create_table(
        "artefacts",
        sa.Column("artefact_id", ID, primary_key=True),
        sa.Column("kind", ID, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("shared_by_all", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("campaign_id", ID),
    )
    op.create_table(
        "artefact_sets",
        sa.Column("set_id", ID, primary_key=True),
        sa.Column("campaign_id", ID),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.Column("first_forgotten", MOMENT),
    )
    op.create_table(
        "artefacts_in_sets",
        sa.Column("set_id", ID, primary_key=True),
        sa.Column("artefact_id", ID, primary_key=True),
    )
    op.create_table(
        "session_artefacts",
        sa.Column("sensor", sa.Text(), primary_key=True),
        sa.Column("session_id", sa.Text(), primary_key=True),
        sa.Column("started_at", MOMENT, primary_key=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("src_ip", sa.Text()),
        sa.Column("set_id", ID, nullable=False),
    )
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", ID, primary_key=True),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("sessions", "sources", "sensors")),
        sa.Column("artefacts", JSON, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("merged_into", ID),
    )
    op.create_table(
        "days_without_campaigns",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)
    connection = op.get_bind()
    connection.exec_driver_sql(SESSION_CAMPAIGNS)
    every_day = sa.text("INSERT INTO days_without_campaigns SELECT DISTINCT day, :now FROM sessions")
    connection.execute(every_day.bindparams(sa.bindparam("now", datetime.now(timezone.utc), MOMENT)))


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP VIEW session_campaigns")
    for table in (
        *("days_without_campaigns", "campaigns", "session_artefacts"),
        *("artefacts_in_sets", "artefact_sets", "artefacts"),
    ):
        op.drop_table(table)
