"""What Dagster shows of the tables: their columns, where those come from, and a few of their rows."""

from __future__ import annotations

from datetime import date
from typing import Any

from dagster import (
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)
from sqlalchemy import Column, select

from cowrie_enrich_dagster.defs.metadata import table as shown_table
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Subject

SAMPLE_ROWS = 5
_SAMPLED = {
    "sessions": (
        "started_at",
        "sensor",
        "src_ip",
        "protocol",
        "login_failures",
        "login_successes",
        "commands",
    ),
    "session_ips": ("src_ip", "sessions", "scope", "priority", "first_seen", "last_seen"),
    "enriched_sessions": (
        *("event_start", "source_ip", "knowledge"),
        *("source_geo_country_iso_code", "source_as_organization_name"),
    ),
}
"""The columns of a sample, wide ones last. No passwords, and no user names: people type one for the other."""
_RENAMED = {
    "event_start": "started_at", "event_end": "ended_at", "event_duration_ms": "duration_ms",
    "source_ip": "src_ip", "source_port": "src_port", "destination_port": "dst_port",
    "user_name": "username", "network_protocol": "protocol",
}  # fmt: skip
_WHOLE = ("intel", "provenance", "knowledge")
"""Columns that are put together from every answer."""


def described(model: type[tables.Base], **more: Any) -> dict[str, Any]:
    """Metadata of an asset: the table's name and its columns."""
    stored = tables.table_of(model)
    schema = TableSchema(columns=[_described(column) for column in stored.columns])
    columns = MetadataValue.table_schema(schema)
    return {"dagster/table_name": stored.name, "dagster/column_schema": columns, **more}


def _described(column: Column[Any]) -> TableColumn:
    constraints = TableColumnConstraints(nullable=bool(column.nullable), unique=bool(column.unique))
    kind = str(column.type.compile()).lower()
    return TableColumn(column.name, type=kind, description=column.doc, constraints=constraints)


def enriched_lineage() -> TableColumnLineage:
    """Where each column of `enriched_sessions` comes from.

    Dagster+ draws it; the UI of open-source Dagster does not, its API tells it.
    """
    recorded = set(tables.table_of(tables.SessionRecord).columns.keys())
    answer = [TableColumnDep("enrichment_cache", "cache_value")]
    deps: dict[str, list[TableColumnDep]] = {}
    for name in tables.table_of(tables.EnrichedSession).columns.keys():  # noqa: SIM118 (a collection of columns)
        of_session = _RENAMED.get(name, name)
        if name == "source_scope":
            deps[name] = [TableColumnDep("session_ips", "scope")]
        elif of_session in recorded and name not in _WHOLE:
            deps[name] = [TableColumnDep("cowrie_sessions", of_session)]
        elif name == "source_is_scanner":
            deps[name] = [*answer, TableColumnDep("session_ips", "known_scanner")]
        elif name == "source_lists":
            # And from `address_lists`, which is no table of Dagster's where no list is configured.
            deps[name] = [TableColumnDep("cowrie_sessions", field) for field in ("src_ip", "ended_at")]
        elif name == "knowledge":
            deps[name] = [
                TableColumnDep("enrichment_cache", "fetched_at"),
                TableColumnDep("cowrie_sessions", "started_at"),
                TableColumnDep("cowrie_sessions", "ended_at"),
            ]
        else:
            fields = ("cache_value", "status", "fetched_at") if name in _WHOLE else ("cache_value",)
            deps[name] = [TableColumnDep("enrichment_cache", field) for field in fields]
            deps[name] += [
                TableColumnDep("cowrie_sessions", keys)
                for prefix, keys in (("file_", "file_hashes"), ("passwords_", "passwords_sha1"))
                if name.startswith(prefix)
            ]
    return TableColumnLineage(deps)


def sample(database: Database, model: type[tables.Base], day: date) -> MetadataValue[Any]:
    """Some rows of the day, as text."""
    stored = tables.table_of(model)
    columns = [stored.c[name] for name in _SAMPLED[stored.name]]
    query = select(*columns).where(stored.c.day == day).order_by(columns[0]).limit(SAMPLE_ROWS)
    with database.read() as connection:
        return shown_table([column.name for column in columns], connection.execute(query).all())


def sample_of_answers(database: Database, day: date) -> MetadataValue[Any]:
    """Some answers about the day's addresses, without what they say: only which, and as of when."""
    answers, addresses = tables.table_of(tables.EnrichmentCache).c, tables.table_of(tables.SessionIp)
    about = [name for name, service in ALL.items() if service.subject is Subject.IP]
    query = (
        select(answers.service, answers.cache_key, answers.status, answers.fetched_at, answers.expires_at)
        .join(addresses, addresses.c.src_ip == answers.cache_key)
        .where(addresses.c.day == day, answers.service.in_(about))
        .order_by(answers.cache_key, answers.service)
        .limit(SAMPLE_ROWS)
    )
    with database.read() as connection:
        columns = ("service", "cache_key", "status", "fetched_at", "expires_at")
        return shown_table(columns, connection.execute(query).all())
