"""v17: every session its own, with what was done in it; answers stored once, and views of both.

What `v17_begun` found is converted here, a day in a transaction (`lot`): an upgrade that is killed goes on
where it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v17"
down_revision = "v17_begun"
branch_labels = None
depends_on = None

INDEXES = {
    "sessions": {"ix_sessions_day": "day", "ix_sessions_src_ip": "src_ip"},
    "enriched_sessions": {"ix_enriched_sessions_day": "day", "ix_enriched_sessions_source_ip": "source_ip"},
}

# What stands in `intel` alone goes into the history first: an answer told by no cache and no history.
STRAY_ANSWERS = """
    INSERT INTO observations (service, key, fetched_at, status, payload, feed)
    SELECT told.service, told.key, told.fetched_at, told.status, told.payload, told.feed FROM (
        SELECT item.key AS service, e.source_ip AS key, {fetched_at} AS fetched_at,
            {status} AS status, {answer} AS payload, {feed} AS feed
        FROM {source} AS e CROSS JOIN {each}
        WHERE e.day = :day AND e.source_ip IS NOT NULL AND {has_answer}
    ) AS told
    WHERE NOT EXISTS (SELECT 1 FROM enrichment_cache AS c WHERE c.service = told.service
                      AND c.cache_key = told.key AND c.fetched_at = told.fetched_at)
    ON CONFLICT (service, key, fetched_at) DO NOTHING
"""
INTEL_WITHOUT = "(SELECT coalesce({object}(item.key, {without}), '{{}}') FROM {each})"
PROVENANCE = """
    CASE WHEN provenance IS NOT NULL THEN
        (SELECT coalesce({object}(item.key, {service}), '{{}}') FROM {each_origin}) END
"""
INTEL = {
    "sqlite": {
        "source": "old_enriched_sessions",
        "fetched_at": "replace(substr(json_extract(item.value, '$.fetched_at'), 1, 19), 'T', ' ') || "
        "CASE substr(json_extract(item.value, '$.fetched_at'), 20, 1) WHEN '.' "
        "THEN substr(json_extract(item.value, '$.fetched_at'), 20, 7) ELSE '.000000' END",
        "status": "json_extract(item.value, '$.status')",
        "answer": "json_extract(item.value, '$.answer')",
        "feed": "json_extract(item.value, '$.feed')",
        "each": "json_each(intel) AS item",
        "each_origin": "json_each(provenance) AS item",
        "has_answer": "item.type = 'object' "
        "AND json_extract(item.value, '$.status') IN ('found', 'not_found') "
        "AND json_extract(item.value, '$.fetched_at') IS NOT NULL "
        "AND json_type(item.value, '$.answer') IS NOT NULL",
        "object": "json_group_object",
        "without": "json(CASE item.type WHEN 'object' THEN json_remove(item.value, '$.answer') "
        "ELSE item.value END)",
        "service": "CASE item.type WHEN 'object' THEN json_extract(item.value, '$.service') "
        "ELSE item.value END",
    },
    "postgresql": {
        "source": "enriched_sessions",
        "fetched_at": "CAST(item.value ->> 'fetched_at' AS timestamptz)",
        "status": "item.value ->> 'status'",
        "answer": "nullif(item.value -> 'answer', 'null')",
        "feed": "item.value ->> 'feed'",
        "each": "jsonb_each(intel) AS item",
        "each_origin": "jsonb_each(provenance) AS item",
        "has_answer": "item.value ->> 'status' IN ('found', 'not_found') "
        "AND item.value ->> 'fetched_at' IS NOT NULL AND item.value -> 'answer' IS NOT NULL",
        "object": "jsonb_object_agg",
        "without": "CASE jsonb_typeof(item.value) WHEN 'object' THEN item.value - 'answer' "
        "ELSE item.value END",
        "service": "CASE jsonb_typeof(item.value) WHEN 'object' THEN item.value -> 'service' "
        "ELSE item.value END",
    },
}
IN_PLACE = f"UPDATE enriched_sessions SET intel = {INTEL_WITHOUT}, provenance = {PROVENANCE} WHERE day = :day"


def _waiting(connection: sa.Connection) -> dict[str, list[str]]:
    """The tables whose rows are to be converted: what does it for those of a `:day`."""
    dialect = INTEL[connection.dialect.name]
    stray = STRAY_ANSWERS.format(**dialect)
    if connection.dialect.name != "sqlite":
        return {"enriched_sessions": [stray, IN_PLACE.format(**dialect)]}
    inspector = sa.inspect(connection)
    if not inspector.has_table("old_sessions"):
        return {}
    found = {}
    for table in INDEXES:
        names = [column["name"] for column in inspector.get_columns(f"old_{table}")]
        changed = {"intel": INTEL_WITHOUT.format(**dialect), "provenance": PROVENANCE.format(**dialect)}
        values = ", ".join(changed.get(name, name) for name in names)
        found[f"old_{table}"] = [
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM old_{table} WHERE day = :day"
        ]
    found["old_enriched_sessions"].insert(0, stray)
    return found


def lot(connection: sa.Connection) -> bool:
    """Convert the next day's rows of one table; false where there are none left."""
    moment = sa.bindparam("day", type_=sa.Date())
    for table, statements in _waiting(connection).items():
        done = sa.text("SELECT day FROM converted_days WHERE rows_of = :table").columns(day=sa.Date())
        last = connection.execute(done, {"table": table}).scalar()
        later = f"SELECT min(day) AS day FROM {table}{' WHERE day > :day' if last else ''}"
        following = sa.text(later).bindparams(*[moment] * bool(last)).columns(day=sa.Date())
        day = connection.execute(following, {"day": last} if last else {}).scalar()
        if day is None:
            continue
        for statement in statements:
            connection.execute(sa.text(statement).bindparams(moment), {"day": day})
        mark = (
            "INSERT INTO converted_days (rows_of, day) VALUES (:table, :day) "
            "ON CONFLICT (rows_of) DO UPDATE SET day = excluded.day"
        )
        connection.execute(sa.text(mark).bindparams(moment), {"table": table, "day": day})
        return True
    return False


def upgrade() -> None:
    connection = op.get_bind()
    while lot(connection):
        pass
    if connection.dialect.name == "sqlite" and sa.inspect(connection).has_table("old_sessions"):
        for table, indexes in INDEXES.items():
            op.drop_table(f"old_{table}")
            for name, column in indexes.items():
                op.create_index(name, table, [column])
    op.drop_table("converted_days")
    # Days are read alone from now on, and what is in their files has more to tell.
    connection.exec_driver_sql("DELETE FROM log_files")


def downgrade() -> None:
    op.create_table(
        "converted_days", sa.Column("rows_of", sa.Text(), primary_key=True), sa.Column("day", sa.Date())
    )
