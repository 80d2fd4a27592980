"""v15: a queue whose claims and counts cost the same, however much is open; sessions by address."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v15"
down_revision = "v14"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IN_ORDER = [
    "service",
    *map(sa.text, ("value_class DESC", "is_refresh", "last_day DESC", "priority DESC", "key")),
]
UNCLAIMED = "next_attempt_at IS NOT NULL AND NOT ready AND claimed_by IS NULL"

# What is open is counted as it changes. On PostgreSQL each statement adds a row of differences (for a row
# that all update all would queue), which `LookupCounts.fold` adds up; on SQLite, with one writer at a time,
# there is one row a day. A lookup arrives when it is opened for a key that was just seen.
POSTGRESQL_UP = """
CREATE FUNCTION lookups_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO lookup_counts (service, day, opened, arrived, closed)
        SELECT service, (updated_at AT TIME ZONE 'UTC')::date, count(*),
            count(*) FILTER (WHERE NOT is_refresh
                             AND last_day >= (updated_at AT TIME ZONE 'UTC')::date - 1), 0
        FROM came WHERE next_attempt_at IS NOT NULL GROUP BY 1, 2;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO lookup_counts (service, day, opened, arrived, closed)
        SELECT n.service, (n.updated_at AT TIME ZONE 'UTC')::date,
            count(*) FILTER (WHERE n.next_attempt_at IS NOT NULL),
            count(*) FILTER (WHERE n.next_attempt_at IS NOT NULL AND NOT n.is_refresh
                             AND n.last_day >= (n.updated_at AT TIME ZONE 'UTC')::date - 1),
            count(*) FILTER (WHERE n.next_attempt_at IS NULL)
        FROM went AS o JOIN came AS n ON n.service = o.service AND n.key = o.key
        WHERE (o.next_attempt_at IS NULL) <> (n.next_attempt_at IS NULL) GROUP BY 1, 2;
    ELSE
        INSERT INTO lookup_counts (service, day, opened, arrived, closed)
        SELECT service, (now() AT TIME ZONE 'UTC')::date, 0, 0, count(*)
        FROM went WHERE next_attempt_at IS NOT NULL GROUP BY 1, 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER lookups_inserted AFTER INSERT ON lookups
    REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION lookups_counted();
CREATE TRIGGER lookups_updated AFTER UPDATE ON lookups
    REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION lookups_counted();
CREATE TRIGGER lookups_deleted AFTER DELETE ON lookups
    REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION lookups_counted();
ALTER TABLE lookups SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
"""
POSTGRESQL_DOWN = """
DROP TRIGGER lookups_inserted ON lookups;
DROP TRIGGER lookups_updated ON lookups;
DROP TRIGGER lookups_deleted ON lookups;
DROP FUNCTION lookups_counted();
ALTER TABLE lookups RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor,
    autovacuum_analyze_scale_factor);
"""
_ARRIVED = "(NEW.is_refresh = 0 AND NEW.last_day >= date(NEW.updated_at, '-1 day'))"


def _sqlite_trigger(name: str, on: str, day: str, of: str, opened: str, arrived: str, closed: str) -> str:
    return f"""
        CREATE TRIGGER {name} AFTER {on} BEGIN
            INSERT INTO lookup_counts (service, day, opened, arrived, closed)
            SELECT {of}.service, {day}, 0, 0, 0 WHERE NOT EXISTS (
                SELECT 1 FROM lookup_counts WHERE service = {of}.service AND day = {day});
            UPDATE lookup_counts SET opened = opened + {opened}, arrived = arrived + {arrived},
                closed = closed + {closed} WHERE service = {of}.service AND day = {day};
        END
    """


SQLITE_UP = {
    "lookups_inserted": _sqlite_trigger(
        "lookups_inserted", "INSERT ON lookups WHEN NEW.next_attempt_at IS NOT NULL",
        "date(NEW.updated_at)", "NEW", "1", _ARRIVED, "0",
    ),
    "lookups_updated": _sqlite_trigger(
        "lookups_updated",
        "UPDATE OF next_attempt_at ON lookups "
        "WHEN (OLD.next_attempt_at IS NULL) <> (NEW.next_attempt_at IS NULL)",
        "date(NEW.updated_at)", "NEW", "(NEW.next_attempt_at IS NOT NULL)",
        f"(NEW.next_attempt_at IS NOT NULL AND {_ARRIVED})", "(NEW.next_attempt_at IS NULL)",
    ),
    "lookups_deleted": _sqlite_trigger(
        "lookups_deleted", "DELETE ON lookups WHEN OLD.next_attempt_at IS NOT NULL",
        "date('now')", "OLD", "0", "0", "1",
    ),
}  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    op.drop_index("ix_lookups_open", "lookups")
    for name, kind, default in (
        ("value_class", sa.Integer(), "0"),
        ("last_day", sa.Date(), "1970-01-01"),
        ("is_refresh", sa.Boolean(), sa.false()),
        ("ready", sa.Boolean(), sa.false()),
        ("has_news", sa.Boolean(), sa.false()),
    ):
        op.add_column("lookups", sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("lookups", sa.Column("opened_at", MOMENT))
    day_of = "date({0})" if is_sqlite else "({0} AT TIME ZONE 'UTC')::date"
    # What a limit had put off waits in `service_limits` alone from now on; what failed keeps its own time.
    connection.execute(
        sa.text(f"""
        UPDATE lookups SET value_class = priority / 5000, opened_at = created_at,
            ready = (next_attempt_at IS NOT NULL AND claimed_by IS NULL AND status = 'deferred'),
            last_day = coalesce((SELECT max(day) FROM session_ips WHERE src_ip = lookups.key),
                                {day_of.format("created_at")})
    """)
    )
    op.create_table(
        "lookup_counts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("arrived", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "changed_days",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("said_at", MOMENT),
    )
    op.create_index("ix_lookup_counts_service_day", "lookup_counts", ["service", "day"])
    connection.execute(
        sa.text(f"""
        INSERT INTO lookup_counts (service, day, opened, arrived, closed)
        SELECT service, {day_of.format("created_at")}, count(*), 0, 0
        FROM lookups WHERE next_attempt_at IS NOT NULL GROUP BY 1, 2
    """)
    )
    for name, columns, where in (
        ("ix_lookups_ready", IN_ORDER, "ready"),
        ("ix_lookups_asleep", ["service", "next_attempt_at"], UNCLAIMED),
        ("ix_lookups_news", ["service", "key"], "has_news"),
        ("ix_lookups_claimed", ["service", "claim_expires_at"], "claimed_by IS NOT NULL"),
        ("ix_lookups_claimed_by", ["claimed_by"], "claimed_by IS NOT NULL"),
    ):
        clause = sa.text(where)
        op.create_index(name, "lookups", columns, sqlite_where=clause, postgresql_where=clause)
    op.create_index("ix_sessions_src_ip", "sessions", ["src_ip"])
    for statement in SQLITE_UP.values() if is_sqlite else [POSTGRESQL_UP]:
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for name in SQLITE_UP:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    else:
        connection.exec_driver_sql(POSTGRESQL_DOWN)
    op.drop_index("ix_sessions_src_ip", "sessions")
    for name in (
        "ix_lookups_ready",
        "ix_lookups_asleep",
        "ix_lookups_claimed",
        "ix_lookups_claimed_by",
        "ix_lookups_news",
    ):
        op.drop_index(name, "lookups")
    op.drop_table("changed_days")
    op.drop_table("lookup_counts")
    for name in ("value_class", "last_day", "is_refresh", "ready", "opened_at", "has_news"):
        op.drop_column("lookups", name)
    op.create_index("ix_lookups_open", "lookups", ["service", "next_attempt_at", "priority"])
