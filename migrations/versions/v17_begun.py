"""v17_begun: the tables of v17, with what they held before it; `v17` converts that in lots, and ends it.

The version says so as long as it lasts: workers of any version stay out. On SQLite, where a table's key
cannot be changed, what was there waits in `old_...` tables: whoever is still at work finds none with his key.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "v17_begun"
down_revision = "v16"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
NUMBER = sa.Integer()

SESSION = [
    ("sensor", sa.Text(), False),
    ("session_id", sa.Text(), False),
    ("day", sa.Date(), False),
    ("src_ip", sa.Text(), True),
    ("src_port", NUMBER, True),
    ("dst_port", NUMBER, True),
    ("protocol", sa.Text(), True),
    ("started_at", MOMENT, False),
    ("ended_at", MOMENT, False),
    ("duration_ms", sa.BigInteger(), False),
    ("has_connect", sa.Boolean(), False),
    ("has_closed", sa.Boolean(), False),
    *((name, NUMBER, False) for name in (
        "event_count", "login_failures", "login_successes", "commands", "commands_failed", "downloads",
        "uploads", "tunnel_requests", "tunnel_data",
    )),
    *((name, sa.Text(), True) for name in ("username", "password", "client_version", "hassh", "arch")),
    ("terminal_width", NUMBER, True),
    ("terminal_height", NUMBER, True),
    ("ja4h", sa.Text(), True),
    *((name, JSON, True) for name in ("file_hashes", "urls", "passwords_sha1")),
]  # fmt: skip
DEEDS = ("logins", "command_lines", "files", "tunnels")
NEW_IN_SESSIONS = ["closed_at", "ja4", *DEEDS, *(f"{name}_left_out" for name in DEEDS)]

ENRICHED = [
    ("sensor", sa.Text(), False),
    ("session_id", sa.Text(), False),
    ("day", sa.Date(), False),
    ("event_start", MOMENT, False),
    ("event_end", MOMENT, False),
    ("event_duration_ms", sa.BigInteger(), False),
    ("network_protocol", sa.Text(), True),
    ("source_ip", sa.Text(), True),
    ("source_port", NUMBER, True),
    ("destination_port", NUMBER, True),
    ("user_name", sa.Text(), True),
    *((name, NUMBER, False) for name in (
        "login_failures", "login_successes", "commands", "downloads", "uploads",
    )),
    ("source_scope", sa.String(16), False),
    ("source_as_number", sa.BigInteger(), True),
    ("source_as_organization_name", sa.Text(), True),
    ("source_geo_country_iso_code", sa.String(2), True),
    *((f"source_is_{name}", sa.Boolean(), True) for name in ("scanner", "proxy", "vpn", "tor")),
    ("source_abuse_score", NUMBER, True),
    ("source_classification", sa.Text(), True),
    ("source_reports", sa.BigInteger(), True),
    ("file_malicious", NUMBER, True),
    ("file_label", sa.Text(), True),
    ("passwords_breached", NUMBER, True),
    ("passwords_novel", NUMBER, True),
    ("provenance", JSON, True),
    ("intel", JSON, False),
    ("knowledge", sa.String(32), False),
]  # fmt: skip
NEW_IN_ENRICHED = [
    *("password", "client_version", "hassh", "ja4h", "ja4", "file_hashes", "urls"),
    *DEEDS,
    *(f"{name}_left_out" for name in DEEDS),
]
INDEXES = {
    "sessions": {"ix_sessions_day": "day", "ix_sessions_src_ip": "src_ip"},
    "enriched_sessions": {"ix_enriched_sessions_day": "day", "ix_enriched_sessions_source_ip": "source_ip"},
}
KEYS = {"sessions": "started_at", "enriched_sessions": "event_start"}

ITEMS = {
    "session_logins": ("logins", {"username": "text", "password": "text", "key": "text",
                                  "success": "boolean", "attempts": "integer"}),
    "session_commands": ("command_lines", {}),
    "session_files": ("files", dict.fromkeys(("sha256", "url", "name", "how"), "text")),
    "session_tunnels": ("tunnels", {"host": "text", "port": "integer", "requests": "integer"}),
}  # fmt: skip
LISTS = "('dshield_sources', 'abuseipdb_blacklist')"
"""Feeds: their entries are whole lists, copied out for the addresses that they are about."""


def _new(name: str) -> sa.Column[object]:
    if name.endswith("_left_out"):
        return sa.Column(name, NUMBER, nullable=False, server_default="0")
    if name == "closed_at":
        return sa.Column(name, MOMENT)
    return sa.Column(name, JSON if name in (*DEEDS, "file_hashes", "urls") else sa.Text())


def _columns(old: list[tuple[str, object, bool]], new: list[str]) -> list[sa.Column[object]]:
    return [
        *(sa.Column(name, kind, nullable=nullable) for name, kind, nullable in old),
        *map(_new, new),
    ]


def _rekey(table: str, columns: list[sa.Column[object]], key: list[str]) -> None:
    """Give a table these columns, and no others, and this key; what it holds stays."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        names = {column["name"] for column in sa.inspect(connection).get_columns(table)}
        for column in columns:
            if column.name not in names:
                op.add_column(table, column)
        for name in names - {column.name for column in columns}:
            op.drop_column(table, name)
        op.drop_constraint(f"{table}_pkey", table, type_="primary")
        op.create_primary_key(f"{table}_pkey", table, key)
        return
    op.rename_table(table, f"old_{table}")
    op.create_table(table, *columns, sa.PrimaryKeyConstraint(*key))


def _item_view(name: str, column: str, fields: dict[str, str], is_sqlite: bool) -> str:
    if is_sqlite:
        position, each = "item.key + 1", f"json_each(s.{column}) AS item"
        values = [f"json_extract(item.value, '$.{field}') AS {field}" for field in fields]
        whole = "item.value AS command_line"
    else:
        position = "item.position"
        each = f"jsonb_array_elements(s.{column}) WITH ORDINALITY AS item(value, position)"
        values = [f"CAST(item.value ->> '{field}' AS {kind}) AS {field}" for field, kind in fields.items()]
        whole = "item.value #>> '{}' AS command_line"
    return f"""
        CREATE VIEW {name} AS
        SELECT s.sensor, s.session_id, s.started_at, s.day, s.src_ip, {position} AS position,
            {", ".join(values) or whole}
        FROM sessions AS s CROSS JOIN {each}
    """


# Moments of the history as text, as SQLite keeps them, and as what they are.
ANSWERS = """
    CREATE VIEW answers AS
    SELECT service, cache_key AS key, fetched_at, status, cache_value AS payload, NULL AS feed
    FROM enrichment_cache WHERE service NOT IN {lists}
    UNION ALL
    SELECT o.service, o.key, o.fetched_at, o.status, o.payload, o.feed FROM observations AS o
    WHERE NOT EXISTS (
        SELECT 1 FROM enrichment_cache AS c
        WHERE c.service = o.service AND c.cache_key = o.key AND c.fetched_at = o.fetched_at
    )
    UNION ALL
    SELECT o.service, o.key, {moment} AS fetched_at, o.status, o.payload, o.feed
    FROM observations AS o CROSS JOIN {each}
    WHERE NOT EXISTS (
        SELECT 1 FROM enrichment_cache AS c
        WHERE c.service = o.service AND c.cache_key = o.key AND c.fetched_at = {moment}
    )
"""
MOMENTS = {
    "sqlite": {"moment": "item.value", "each": "json_each(o.told_at) AS item"},
    "postgresql": {
        "moment": "CAST(item.value || '+00' AS timestamptz)",
        "each": "jsonb_array_elements_text(o.told_at) AS item(value)",
    },
}

# An answer by the second in which it was given, as `intel` tells it.
WITH_ANSWERS = """
    UPDATE enriched_sessions SET
        intel = (SELECT coalesce({object}(item.key, {with_answer}), '{{}}') FROM {each}),
        provenance = CASE WHEN provenance IS NOT NULL THEN
            (SELECT coalesce({object}(item.key, {origin}), '{{}}') FROM {each_origin}) END
"""
ANSWER = """
    (SELECT a.payload FROM answers AS a
     WHERE a.service = item.key AND a.key = enriched_sessions.source_ip AND {same_second}
     ORDER BY a.fetched_at DESC LIMIT 1)
"""
INTEL = {
    "sqlite": {
        "object": "json_group_object",
        "each": "json_each(intel) AS item",
        "each_origin": "json_each(provenance) AS item",
        "with_answer": "json(CASE WHEN item.type = 'object' "
        "AND json_extract(item.value, '$.status') IN ('found', 'not_found') "
        "AND json_extract(item.value, '$.fetched_at') IS NOT NULL "
        "AND json_type(item.value, '$.answer') IS NULL "
        f"THEN json_insert(json_set(item.value, '$.answer', json({ANSWER})), '$.stale', json('false')) "
        "ELSE item.value END)",
        "same_second": "substr(a.fetched_at, 1, 19) = "
        "replace(substr(json_extract(item.value, '$.fetched_at'), 1, 19), 'T', ' ')",
        "origin": "json(CASE item.type WHEN 'object' THEN item.value ELSE "
        "json_object('service', item.value, 'fetched_at', "
        "json_extract(enriched_sessions.intel, '$.' || item.value || '.fetched_at')) END)",
    },
    "postgresql": {
        "object": "jsonb_object_agg",
        "each": "jsonb_each(intel) AS item",
        "each_origin": "jsonb_each(provenance) AS item",
        "with_answer": "CASE WHEN item.value ->> 'status' IN ('found', 'not_found') "
        "AND item.value ->> 'fetched_at' IS NOT NULL AND item.value -> 'answer' IS NULL "
        f"THEN jsonb_build_object('stale', false) || item.value || jsonb_build_object('answer', {ANSWER}) "
        "ELSE item.value END",
        "same_second": "date_trunc('second', a.fetched_at) = "
        "date_trunc('second', CAST(item.value ->> 'fetched_at' AS timestamptz))",
        "origin": "CASE jsonb_typeof(item.value) WHEN 'object' THEN item.value ELSE "
        "jsonb_build_object('service', item.value, "
        "'fetched_at', enriched_sessions.intel -> (item.value #>> '{}') -> 'fetched_at') END",
    },
}
TOLD_ONCE = """
    INSERT INTO observations (service, key, fetched_at, status, payload, feed)
    SELECT o.service, o.key, {moment}, o.status, o.payload, o.feed
    FROM observations AS o CROSS JOIN {each} WHERE true
    ON CONFLICT (service, key, fetched_at) DO NOTHING
"""


def upgrade() -> None:
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    for table, columns in (
        ("sessions", _columns(SESSION, NEW_IN_SESSIONS)),
        ("enriched_sessions", _columns(ENRICHED, NEW_IN_ENRICHED)),
    ):
        _rekey(table, columns, ["sensor", "session_id", KEYS[table]])
    op.create_table(
        "session_pieces",
        *_columns(SESSION, NEW_IN_SESSIONS),
        sa.PrimaryKeyConstraint("sensor", "session_id", "started_at"),
    )
    op.create_index("ix_session_pieces_day", "session_pieces", ["day"])
    op.create_table(
        "moved_days",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("moved_at", MOMENT, nullable=False),
    )
    for name, (column, fields) in ITEMS.items():
        connection.exec_driver_sql(_item_view(name, column, fields, is_sqlite))
    op.add_column("observations", sa.Column("told_until", MOMENT))
    op.add_column("observations", sa.Column("told_at", JSON))
    connection.exec_driver_sql(ANSWERS.format(lists=LISTS, **MOMENTS[connection.dialect.name]))
    op.create_table(
        "converted_days", sa.Column("rows_of", sa.Text(), primary_key=True), sa.Column("day", sa.Date())
    )


def downgrade() -> None:
    connection = op.get_bind()
    tables = sa.inspect(connection).get_table_names()
    if "old_sessions" not in tables:
        dialect = INTEL[connection.dialect.name]
        answers = {
            name: part.format(**dialect) if "{same" in part else part for name, part in dialect.items()
        }
        connection.exec_driver_sql(WITH_ANSWERS.format(**answers))
    for name in ("answers", *ITEMS):
        connection.exec_driver_sql(f"DROP VIEW {name}")
    connection.exec_driver_sql(TOLD_ONCE.format(**MOMENTS[connection.dialect.name]))
    op.drop_column("observations", "told_at")
    op.drop_column("observations", "told_until")
    for name in ("moved_days", "session_pieces", "converted_days"):
        op.drop_table(name)
    for table, old in (("sessions", SESSION), ("enriched_sessions", ENRICHED)):
        if f"old_{table}" in tables:  # not converted to the end: everything is there as it was
            op.drop_table(table)
            op.rename_table(f"old_{table}", table)
            continue
        start = KEYS[table]
        # Of an id used again the first session stays.
        connection.exec_driver_sql(f"""
            DELETE FROM {table} WHERE EXISTS (
                SELECT 1 FROM {table} AS first WHERE first.sensor = {table}.sensor
                AND first.session_id = {table}.session_id AND first.{start} < {table}.{start})
        """)
        _rekey(table, _columns(old, []), ["sensor", "session_id"])
        if connection.dialect.name == "sqlite":
            names = ", ".join(name for name, *_ in old)
            connection.exec_driver_sql(f"INSERT INTO {table} ({names}) SELECT {names} FROM old_{table}")
            op.drop_table(f"old_{table}")
            for name, column in INDEXES[table].items():
                op.create_index(name, table, [column])
    connection.exec_driver_sql("DELETE FROM log_files")
