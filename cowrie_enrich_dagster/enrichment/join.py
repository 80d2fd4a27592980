"""Sessions joined with what is known about their source: one row per session, enriched or not.

What services said is put together once per distinct address; the join over the sessions is one statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    text,
)

from cowrie_enrich_dagster.cache import Hit, HybridEnrichmentCache
from cowrie_enrich_dagster.enrichment.addresses import Address
from cowrie_enrich_dagster.enrichment.queue import LookupQueue
from cowrie_enrich_dagster.services import Facts, Service
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Json, UtcDateTime, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Scope

_FACTS = ("as_number", "as_organization", "country_iso_code", "is_scanner", "reports")
_ENRICHED = table_of(EnrichedSession)
_ADDRESS_INTEL = Table(
    "address_intel",
    MetaData(),
    Column("src_ip", Text, primary_key=True),
    Column("scope", String(16)),
    Column("as_number", BigInteger),
    Column("as_organization", Text),
    Column("country_iso_code", String(2)),
    Column("is_scanner", Boolean),
    Column("reports", BigInteger),
    Column("intel", Json),
    Column("known_at", UtcDateTime),
    prefixes=["TEMPORARY"],
)
_JOIN = """
    INSERT INTO enriched_sessions ({columns})
    SELECT s.sensor, s.session_id, s.day, s.started_at, s.ended_at, s.duration_ms, s.protocol,
        s.src_ip, s.src_port, s.dst_port, s.username,
        s.login_failures, s.login_successes, s.commands, s.downloads, s.uploads,
        coalesce(a.scope, 'invalid'),
        a.as_number, a.as_organization, a.country_iso_code, a.is_scanner, a.reports,
        coalesce(a.intel, {no_intel}),
        CASE
            WHEN a.known_at IS NULL THEN 'unknown'
            WHEN a.known_at < s.started_at THEN 'before'
            WHEN a.known_at <= s.ended_at THEN 'during'
            ELSE {days_after} || ' days after'
        END
    FROM sessions AS s LEFT JOIN address_intel AS a ON a.src_ip = s.src_ip
    WHERE s.day BETWEEN :first AND :last
    ON CONFLICT (sensor, session_id) DO UPDATE SET {update}
"""


@dataclass
class JoinReport:
    """Rows written, and for each service how many addresses and sessions have which status."""

    sessions: int = 0
    addresses: int = 0
    lookups: dict[str, Counter[str]] = field(default_factory=dict)
    sessions_by_status: dict[str, Counter[str]] = field(default_factory=dict)
    stale: int = 0
    hits: Counter[str] = field(default_factory=Counter)

    def coverage(self, service: str) -> float | None:
        """The share of sessions from routable addresses that have an answer (None: there are no such)."""
        counts = self.sessions_by_status.get(service, Counter())
        routable = sum(counts.values()) - counts[LookupStatus.SKIPPED_POLICY.value]
        answered = sum(counts[status.value] for status in LookupStatus if status.is_answer)
        return answered / routable if routable else None

    def is_asked(self, service: str) -> bool:
        """Whether the service takes part at all (and is not skipped for want of a key)."""
        return not self.lookups[service][LookupStatus.SKIPPED_NO_KEY.value]


@dataclass(frozen=True)
class AskedService:
    """A service that takes part in this run, and whether we have what it takes to ask it."""

    service: Service
    has_key: bool


def enrich_sessions(
    database: Database,
    days: Days,
    addresses: Sequence[Address],
    services: Sequence[AskedService],
    cache: HybridEnrichmentCache,
    queue: LookupQueue,
) -> JoinReport:
    """Replace the `enriched_sessions` rows of `days`.

    An expired answer is used, and marked `stale`, where there is no newer one (stale-if-error, RFC 5861).
    """
    report = JoinReport(addresses=len(addresses))
    routable = [address.ip for address in addresses if address.scope is Scope.GLOBAL]
    hits: dict[str, Mapping[str, Hit]] = {}
    statuses: dict[str, Mapping[str, LookupStatus]] = {}
    for asked in services:
        name = asked.service.name
        hits[name] = cache.get_many(name, routable, allow_stale=True)
        missing = [ip for ip in routable if ip not in hits[name]]
        statuses[name] = queue.statuses(name, missing) if missing and asked.has_key else {}
        report.lookups[name] = Counter()
        report.sessions_by_status[name] = Counter()
        report.hits.update(hit.tier for hit in hits[name].values())
    rows = _address_rows(addresses, services, hits, statuses, report)
    report.sessions = _replace(database, days, rows)
    return report


def _address_rows(
    addresses: Sequence[Address],
    services: Sequence[AskedService],
    hits: Mapping[str, Mapping[str, Hit]],
    statuses: Mapping[str, Mapping[str, LookupStatus]],
    report: JoinReport,
) -> Iterator[list[Any]]:
    for address in addresses:
        intel: dict[str, Any] = {}
        merged: dict[str, Any] = dict.fromkeys(_FACTS)
        known_at = None
        for asked in services:
            name = asked.service.name
            hit = hits[name].get(address.ip)
            if hit is None:
                status = _status_without_answer(address, asked, statuses[name])
                intel[name] = {"status": status.value}
            else:
                entry, status = hit.entry, hit.entry.status
                known_at = max(known_at, entry.fetched_at) if known_at else entry.fetched_at
                report.stale += hit.stale
                intel[name] = {
                    "status": status.value,
                    "fetched_at": entry.fetched_at.isoformat(),
                    "stale": hit.stale,
                    "answer": entry.payload,
                }
                _merge(merged, asked.service.facts(entry.payload) if entry.payload else Facts())
            report.lookups[name][status.value] += 1
            report.sessions_by_status[name][status.value] += address.sessions
        yield [address.ip, address.scope.value, *merged.values(), intel, known_at]


def _merge(merged: dict[str, Any], facts: Facts) -> None:
    """The first service that knows a fact wins; services come in order of trust."""
    for name in _FACTS:
        if merged[name] is None:
            merged[name] = getattr(facts, name)


def _status_without_answer(
    address: Address, asked: AskedService, statuses: Mapping[str, LookupStatus]
) -> LookupStatus:
    if address.scope is not Scope.GLOBAL:
        return LookupStatus.SKIPPED_POLICY
    if not asked.has_key:
        return LookupStatus.SKIPPED_NO_KEY
    status = statuses.get(address.ip, LookupStatus.DEFERRED)
    return LookupStatus.DEFERRED if status.is_answer else status  # the answer was purged since


def _replace(database: Database, days: Days, rows: Iterator[list[Any]]) -> int:
    columns = [column.name for column in _ENRICHED.columns]
    statement = _JOIN.format(
        columns=", ".join(columns),
        no_intel="'{}'" if database.is_sqlite else "'{}'::jsonb",
        days_after=(
            "CAST(julianday(a.known_at) - julianday(s.ended_at) AS INTEGER)"
            if database.is_sqlite
            else "floor(extract(epoch from a.known_at - s.ended_at) / 86400)::int"
        ),
        update=", ".join(f"{name} = excluded.{name}" for name in columns[2:]),
    )
    with database.write() as connection:
        if not database.is_sqlite:  # two runs over the same day take turns; on SQLite all writers do
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('enriched_sessions'))"))
        connection.execute(text("DROP TABLE IF EXISTS address_intel"))
        _ADDRESS_INTEL.create(connection)
        insert_rows(connection, _ADDRESS_INTEL, [column.name for column in _ADDRESS_INTEL.columns], rows)
        connection.execute(delete(_ENRICHED).where(_ENRICHED.c.day.between(days.first, days.last)))
        typed = (bindparam("first", days.first, Date), bindparam("last", days.last, Date))
        written = connection.execute(text(statement).bindparams(*typed)).rowcount
        connection.execute(text("DROP TABLE address_intel"))
    return written
