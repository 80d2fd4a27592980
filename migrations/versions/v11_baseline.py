"""v11: sessions, their addresses, the enriched rows, and what the runs leave behind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v11"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("sensor", sa.Text(), primary_key=True),
        sa.Column("session_id", sa.Text(), primary_key=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("src_ip", sa.Text()),
        sa.Column("src_port", sa.Integer()),
        sa.Column("dst_port", sa.Integer()),
        sa.Column("protocol", sa.Text()),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("has_connect", sa.Boolean(), nullable=False),
        sa.Column("has_closed", sa.Boolean(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("login_failures", sa.Integer(), nullable=False),
        sa.Column("login_successes", sa.Integer(), nullable=False),
        sa.Column("commands", sa.Integer(), nullable=False),
        sa.Column("commands_failed", sa.Integer(), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("tunnel_requests", sa.Integer(), nullable=False),
        sa.Column("tunnel_data", sa.Integer(), nullable=False),
        sa.Column("username", sa.Text()),
        sa.Column("password", sa.Text()),
        sa.Column("client_version", sa.Text()),
        sa.Column("hassh", sa.Text()),
        sa.Column("arch", sa.Text()),
        sa.Column("terminal_width", sa.Integer()),
        sa.Column("terminal_height", sa.Integer()),
        sa.Column("ja4h", sa.Text()),
        sa.Column("file_hashes", JSON),
        sa.Column("urls", JSON),
        sa.Column("passwords_sha1", JSON),
    )
    op.create_index("ix_sessions_day", "sessions", ["day"])
    op.create_table(
        "session_ips",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("src_ip", sa.Text(), primary_key=True),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("sensors", sa.Integer(), nullable=False),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.Column("login_failures", sa.Integer(), nullable=False),
        sa.Column("login_successes", sa.Integer(), nullable=False),
        sa.Column("commands", sa.Integer(), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
    )
    op.create_index("ix_session_ips_src_ip", "session_ips", ["src_ip"])
    op.create_table(
        "enriched_sessions",
        sa.Column("sensor", sa.Text(), primary_key=True),
        sa.Column("session_id", sa.Text(), primary_key=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("event_start", MOMENT, nullable=False),
        sa.Column("event_end", MOMENT, nullable=False),
        sa.Column("event_duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("network_protocol", sa.Text()),
        sa.Column("source_ip", sa.Text()),
        sa.Column("source_port", sa.Integer()),
        sa.Column("destination_port", sa.Integer()),
        sa.Column("user_name", sa.Text()),
        sa.Column("login_failures", sa.Integer(), nullable=False),
        sa.Column("login_successes", sa.Integer(), nullable=False),
        sa.Column("commands", sa.Integer(), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("source_scope", sa.String(16), nullable=False),
        sa.Column("source_as_number", sa.BigInteger()),
        sa.Column("source_as_organization_name", sa.Text()),
        sa.Column("source_geo_country_iso_code", sa.String(2)),
        sa.Column("source_is_scanner", sa.Boolean()),
        sa.Column("source_reports", sa.BigInteger()),
        sa.Column("intel", JSON, nullable=False),
        sa.Column("knowledge", sa.String(32), nullable=False),
    )
    op.create_index("ix_enriched_sessions_day", "enriched_sessions", ["day"])
    op.create_index("ix_enriched_sessions_source_ip", "enriched_sessions", ["source_ip"])
    op.create_table(
        "quarantined_lines",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("excerpt", sa.Text(), nullable=False),
    )
    op.create_index("ix_quarantined_lines_path_line", "quarantined_lines", ["path", "line"])
    op.create_table(
        "enrichment_runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("first_day", sa.Date()),
        sa.Column("last_day", sa.Date()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("report", JSON),
    )
    op.create_index("ix_enrichment_runs_started_at", "enrichment_runs", ["started_at"])
    op.create_table(
        "log_files",
        sa.Column("path", sa.Text(), primary_key=True),
        sa.Column("file_index", JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("log_files")
    op.drop_table("enrichment_runs")
    op.drop_table("quarantined_lines")
    op.drop_table("enriched_sessions")
    op.drop_table("session_ips")
    op.drop_table("sessions")
