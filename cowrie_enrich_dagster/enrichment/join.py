"""Sessions joined with what is known about them: one row per session, enriched or not.

What is known is put together in `intel_rows`, once per distinct key; the join itself is one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import (
    Connection,
    Delete,
    bindparam,
    delete,
    func,
    select,
    text,
)

from cowrie_enrich_dagster.enrichment.coverage import JoinReport
from cowrie_enrich_dagster.enrichment.facts import OF_ADDRESSES
from cowrie_enrich_dagster.enrichment.intel_rows import (
    ADDRESS_INTEL,
    FILE_INTEL,
    PASSWORD_INTEL,
    TEMPORARY,
    address_rows,
    file_rows,
    password_rows,
)
from cowrie_enrich_dagster.enrichment.keys import PREFIX_CHARS, TOUCHED, Chosen, Key, touch_none
from cowrie_enrich_dagster.enrichment.knowledge import Knowledge
from cowrie_enrich_dagster.enrichment.list_book import NO_SPANS, Spans
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import repeats_after_outage
from cowrie_enrich_dagster.storage.tables import EnrichedSession, UtcDateTime, table_of
from cowrie_enrich_dagster.storage.temporary import make_anew
from cowrie_enrich_dagster.vocabulary import Days, Subject

_ENRICHED = table_of(EnrichedSession)
_JOIN = """
    WITH files AS (
        SELECT s.sensor, s.session_id, s.started_at, sum(f.malicious) AS malicious, max(f.label) AS label,
            max(f.told_by) AS told,
            {object_of}(f.sha256, {intel_of_file}) AS intel
        FROM sessions AS s, {each}(s.file_hashes) AS item JOIN file_intel AS f ON f.sha256 = item.value
        WHERE {chosen} GROUP BY s.sensor, s.session_id, s.started_at
    ), passwords AS (
        SELECT s.sensor, s.session_id, s.started_at,
            sum(p.breached) AS breached, sum(1 - p.breached) AS novel,
            max(p.told_by) AS told
        FROM sessions AS s, {each}(s.passwords_sha1) AS item JOIN password_intel AS p ON p.sha1 = item.value
        WHERE {chosen} GROUP BY s.sensor, s.session_id, s.started_at
    )
    INSERT INTO enriched_sessions ({columns})
    SELECT {values}
    FROM sessions AS s
    LEFT JOIN address_intel AS a
        ON a.src_ip = s.src_ip AND s.ended_at >= a.valid_from AND s.ended_at < a.valid_to
    LEFT JOIN files AS f
        ON f.sensor = s.sensor AND f.session_id = s.session_id AND f.started_at = s.started_at
    LEFT JOIN passwords AS p
        ON p.sensor = s.sensor AND p.session_id = s.session_id AND p.started_at = s.started_at
    WHERE {chosen}
    ON CONFLICT (sensor, session_id, event_start) DO UPDATE SET {update}
"""
_OF_SESSION = {
    "event_start": "started_at",
    "event_end": "ended_at",
    "event_duration_ms": "duration_ms",
    "network_protocol": "protocol",
    "source_ip": "src_ip",
    "source_port": "src_port",
    "destination_port": "dst_port",
    "user_name": "username",
}
"""Columns of `enriched_sessions` that have another name in `sessions`; the others are called the same."""
_KNOWN = {
    "source_scope": "coalesce(a.scope, 'invalid')",
    **{column: f"a.{fact}" for fact, column in OF_ADDRESSES.items()},
    "source_lists": "a.lists",
    "file_malicious": "f.malicious",
    "file_label": "f.label",
    "passwords_breached": "p.breached",
    "passwords_novel": "p.novel",
    "provenance": "{merged_provenance}",
    "intel": "{merged_intel}",
    "knowledge": """
        CASE
            WHEN a.known_at IS NULL THEN 'unknown'
            WHEN a.known_at < s.started_at THEN 'before'
            WHEN a.known_at <= s.ended_at THEN 'during'
            ELSE {days_after} || ' days after'
        END""",
}
"""Columns that tell what is known, each with the SQL that makes it."""
_VALUES = {
    column.name: _KNOWN.get(column.name) or f"s.{_OF_SESSION.get(column.name, column.name)}"
    for column in _ENRICHED.columns
}
REPEATED = {
    column.name: _VALUES[column.name]
    for column in _ENRICHED.columns
    if not column.primary_key and column.name not in _KNOWN
}
"""The columns of `enriched_sessions`, but its key, that repeat one of `sessions AS s`, each with that one."""
_UNGATHERED = """
    DELETE FROM touched WHERE src_ip IS NOT NULL AND src_ip NOT IN (SELECT src_ip FROM address_intel)
"""
_DIALECT = {
    "sqlite": {
        "each": "json_each",
        "object_of": "json_group_object",
        "intel_of_file": "json(f.intel)",
        "merged_intel": "CASE WHEN f.intel IS NULL THEN coalesce(a.intel, '{}') "
        "ELSE json_patch(coalesce(a.intel, '{}'), json_object('files', json(f.intel))) END",
        # RFC 7396: what is null in the patch is left out.
        "merged_provenance": "CASE WHEN f.malicious IS NULL AND p.told IS NULL THEN a.provenance ELSE "
        "json_patch(coalesce(a.provenance, '{}'), json_object("
        "'file_malicious', CASE WHEN f.malicious IS NOT NULL THEN f.told END, "
        "'file_label', CASE WHEN f.label IS NOT NULL THEN f.told END, "
        "'passwords_breached', p.told, 'passwords_novel', p.told)) END",
        "days_after": "CAST(julianday(a.known_at) - julianday(s.ended_at) AS INTEGER)",
    },
    "postgresql": {
        "each": "jsonb_array_elements_text",
        "object_of": "jsonb_object_agg",
        "intel_of_file": "f.intel",
        "merged_intel": "CASE WHEN f.intel IS NULL THEN coalesce(a.intel, '{}') "
        "ELSE coalesce(a.intel, '{}') || jsonb_build_object('files', f.intel) END",
        "merged_provenance": "CASE WHEN f.malicious IS NULL AND p.told IS NULL THEN a.provenance ELSE "
        "coalesce(a.provenance, '{}') || jsonb_strip_nulls(jsonb_build_object("
        "'file_malicious', CASE WHEN f.malicious IS NOT NULL THEN f.told END, "
        "'file_label', CASE WHEN f.label IS NOT NULL THEN f.told END, "
        "'passwords_breached', p.told, 'passwords_novel', p.told)) END",
        "days_after": "floor(extract(epoch from a.known_at - s.ended_at) / 86400)::int",
    },
}


@repeats_after_outage
def enrich_sessions(
    database: Database,
    days: Days,
    addresses: Sequence[Key],
    knowledge: Sequence[Knowledge],
    passwords: Iterable[str],
    spans: Spans = NO_SPANS,
    then: Callable[[Connection], None] = lambda connection: None,
) -> JoinReport:
    """Replace the `enriched_sessions` rows of `days`; `then` is called in the transaction.

    `knowledge` comes in order of trust: the first service that knows a shared fact is believed. `passwords`
    are the SHA-1 hashes (upper-case hex) tried on these days; `spans` tell when which lists held an address.
    """
    span = _ENRICHED.c.day.between(days.first, days.last)
    with database.write() as connection:
        report = _write(database, connection, Chosen.of_days(days), delete(_ENRICHED).where(span),
                        addresses, knowledge, passwords, spans)  # fmt: skip
        written = select(func.count()).select_from(_ENRICHED).where(span)
        report.sessions = connection.execute(written).scalar_one()
        then(connection)
    return report


@repeats_after_outage
def enrich_touched(
    database: Database,
    touch: Callable[[Connection], object],
    addresses: Sequence[Key],
    knowledge: Sequence[Knowledge],
    passwords: Iterable[str],
    then: Callable[[Connection], None],
    spans: Spans = NO_SPANS,
) -> JoinReport:
    """Write anew the rows of the sessions that `touch` puts into `touched`; `then` is called at the end.

    Both are called in the transaction. `knowledge` is about all their keys. A session whose address is not
    among `addresses` came later: whoever brought it writes its row.
    """
    with database.write() as connection:
        touch_none(connection)
        touch(connection)
        # A row whose session has gone or moved meanwhile is the business of whoever moved it.
        report = _write(database, connection, TOUCHED, None, addresses, knowledge, passwords, spans)
        then(connection)
        report.sessions = connection.execute(text("SELECT count(*) FROM touched")).scalar_one()
        connection.execute(text("DROP TABLE touched"))
    return report


def _write(
    database: Database,
    connection: Connection,
    chosen: Chosen,
    replaced: Delete | None,
    addresses: Sequence[Key],
    knowledge: Sequence[Knowledge],
    passwords: Iterable[str],
    spans: Spans,
) -> JoinReport:
    report = JoinReport()
    for known in knowledge:
        report.count(known)
    of = {subject: [k for k in knowledge if k.asked.service.subject is subject] for subject in Subject}
    if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('enriched_sessions'))"))
    for table, rows in (
        (ADDRESS_INTEL, address_rows(addresses, of[Subject.IP], spans)),
        (FILE_INTEL, file_rows(of[Subject.FILE_SHA256])),
        (PASSWORD_INTEL, password_rows(of[Subject.PASSWORD_SHA1_PREFIX], passwords)),
    ):
        make_anew(connection, table)
        names = [column.name for column in table.columns]
        insert_rows(connection, table, names, ([row[name] for name in names] for row in rows))
    if replaced is not None:
        connection.execute(replaced)
    else:
        connection.execute(text(_UNGATHERED))
    dialect = _DIALECT[connection.dialect.name]
    statement = _JOIN.format(
        chosen=chosen.sessions,
        columns=", ".join(_VALUES),
        values=", ".join(_VALUES.values()).format(**dialect),
        update=", ".join(f"{c.name} = excluded.{c.name}" for c in _ENRICHED.columns if not c.primary_key),
        **dialect,
    )
    connection.execute(chosen.bound(statement))
    _ended_since(connection, knowledge)
    for table in TEMPORARY.sorted_tables:
        connection.execute(text(f"DROP TABLE {table.name}"))
    return report


def _ended_since(connection: Connection, knowledge: Sequence[Knowledge]) -> None:
    """Make news of what ended after it was looked for: another may have written it, and we over that."""
    keys = {
        Subject.IP: "SELECT src_ip FROM address_intel",
        Subject.FILE_SHA256: "SELECT sha256 FROM file_intel",
        Subject.PASSWORD_SHA1_PREFIX: f"SELECT substr(sha1, 1, {PREFIX_CHARS}) FROM password_intel",
    }
    for known in knowledge:
        statement = text(f"""
            UPDATE lookups SET has_news = true
            WHERE service = :service AND updated_at >= :gathered_at AND NOT has_news
              AND NOT ready AND claimed_by IS NULL AND key IN ({keys[known.asked.service.subject]})
        """).bindparams(bindparam("gathered_at", known.gathered_at, UtcDateTime))
        connection.execute(statement, {"service": known.name})
