"""Who came: addresses, their networks and countries, and since when anything is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from cowrie_enrich_dagster.lookups.order import CLASS_STEP
from cowrie_enrich_dagster.report.asking import Asking, Top
from cowrie_enrich_dagster.storage.json_text import from_json, to_json

REACHED = ("tried", "left files", "got in", "got in, left files")
"""What the classes of an address's worth (`lookups.order`) say in words."""
SOURCES_SHOWN, NETWORKS_SHOWN = 20, 12


@dataclass(frozen=True)
class Source:
    """An address, the sum of its sessions on the days, and what is known of it in the newest of them.

    `reached` is one of `REACHED`. `first_seen` is of all days on record. `services` says how each ended that
    was to tell of it, and `known` when something was known, as in `enriched_sessions.knowledge`.
    """

    address: str
    scope: str
    reached: str
    sessions: int
    logins_accepted: int
    commands: int
    transfers: int
    sensors: int
    first_seen: datetime
    last_seen: datetime
    is_new: bool
    as_number: int | None
    organization: str | None
    country: str | None
    marks: tuple[str, ...]
    abuse_score: int | None
    reports: int | None
    known: str
    services: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """A network (AS) or a country; `name` None: not known. `sessions_in` are the sessions that got in."""

    name: str | None
    organization: str | None
    sessions: int
    sources: int
    sessions_in: int


@dataclass(frozen=True)
class KnownSince:
    """How many sessions' sources were known before, during or after them, or are not; see `KNOWN`."""

    when: str
    sessions: int
    sources: int


KNOWN = {
    "before": "before the session",
    "during": "during it",
    "day": "within a day after it",
    "later": "later",
    "unknown": "not known",
}
_SOURCES = """
    SELECT src_ip, max(scope) AS scope, max(priority) AS priority, sum(sessions) AS sessions,
        sum(login_successes) AS logins_accepted, sum(commands) AS commands,
        sum(downloads + uploads) AS transfers, max(sensors) AS sensors,
        max(last_seen) AS last_seen, count(*) OVER () AS of_all
    FROM session_ips WHERE day BETWEEN :first AND :last
    GROUP BY src_ip ORDER BY max(priority) / {step} DESC, sum(sessions) DESC, src_ip LIMIT :number
"""
_FIRST_SEEN = "SELECT src_ip, min(first_seen) AS first_seen FROM session_ips WHERE {among} GROUP BY src_ip"
_ORIGINS = """
    WITH origins AS MATERIALIZED (
        SELECT source_as_number AS number, source_as_organization_name AS organization,
            source_geo_country_iso_code AS country, source_ip, knowledge, count(*) AS sessions,
            count(CASE WHEN login_successes > 0 THEN 1 END) AS sessions_in
        FROM enriched_sessions WHERE day BETWEEN :first AND :last GROUP BY 1, 2, 3, 4, 5
    ), networks AS (
        SELECT number, max(organization) AS organization, sum(sessions) AS sessions,
            count(DISTINCT source_ip) AS sources, sum(sessions_in) AS sessions_in, count(*) OVER () AS of_all
        FROM origins GROUP BY number ORDER BY sum(sessions) DESC, number LIMIT :number
    ), countries AS (
        SELECT country, sum(sessions) AS sessions, count(DISTINCT source_ip) AS sources,
            sum(sessions_in) AS sessions_in, count(*) OVER () AS of_all
        FROM origins GROUP BY country ORDER BY sum(sessions) DESC, country LIMIT :number
    ), known AS (
        SELECT CASE WHEN knowledge = '0 days after' THEN 'day' WHEN knowledge LIKE '%days after' THEN 'later'
            ELSE knowledge END AS known, source_ip, sessions FROM origins
    )
    SELECT 'network' AS kind, CAST(number AS text) AS name, organization, sessions, sources, sessions_in,
        of_all
    FROM networks
    UNION ALL SELECT 'country', country, NULL, sessions, sources, sessions_in, of_all FROM countries
    UNION ALL SELECT 'known', known, NULL, sum(sessions), count(DISTINCT source_ip), 0, 0
    FROM known GROUP BY known
"""
_NEWEST_COLUMNS = """
    source_ip, source_scope, source_as_number, source_as_organization_name, source_geo_country_iso_code,
    source_is_scanner, source_is_proxy, source_is_vpn, source_is_tor, source_abuse_score,
    source_classification, source_reports, knowledge, CAST(source_lists AS text) AS lists,
    CAST(intel AS text) AS intel
"""
_NEWEST = {
    # SQLite takes the other columns from the row that has the maximum.
    "sqlite": f"""
        SELECT {_NEWEST_COLUMNS}, max(event_start) AS newest FROM enriched_sessions
        WHERE source_ip IS NOT NULL AND day BETWEEN :first AND :last GROUP BY source_ip
    """,
    "postgresql": f"""
        SELECT DISTINCT ON (source_ip) {_NEWEST_COLUMNS}, event_start AS newest FROM enriched_sessions
        WHERE source_ip IS NOT NULL AND day BETWEEN :first AND :last ORDER BY source_ip, event_start DESC
    """,
}
_MARKS = ("scanner", "proxy", "vpn", "tor")


def newest_of_each(asking: Asking) -> Iterable[Row[Any]]:
    """What is known of every source, as it stands in its newest session of the days."""
    return asking.stream(asking.dialect(**_NEWEST))


def busiest(asking: Asking) -> list[Row[Any]]:
    """The sources that achieved most, then those with most sessions."""
    query = _SOURCES.format(step=CLASS_STEP)
    return list(asking.rows(query, "last_seen", number=SOURCES_SHOWN))


def sources_of(
    asking: Asking, rows: list[Row[Any]], known: Mapping[str, Row[Any]], has_past: bool
) -> Top[Source]:
    """The sources of `busiest` with what is known of each; `has_past`: there are days before these."""
    query = _FIRST_SEEN.format(among=asking.database.among("src_ip"))
    first_seen = {
        row.src_ip: row.first_seen
        for row in asking.rows(query, "first_seen", keys=to_json([row.src_ip for row in rows]))
    }

    def made(row: Row[Any]) -> Source:
        seen, facts = first_seen[row.src_ip], known.get(row.src_ip)
        return Source(
            address=row.src_ip,
            scope=row.scope,
            reached=REACHED[row.priority // CLASS_STEP],
            sessions=int(row.sessions),
            logins_accepted=int(row.logins_accepted),
            commands=int(row.commands),
            transfers=int(row.transfers),
            sensors=row.sensors,
            first_seen=seen,
            last_seen=row.last_seen,
            is_new=has_past and seen.date() >= asking.days.first,
            **_facts(facts),
        )

    return Top.of(rows, made)


def _facts(row: Row[Any] | None) -> dict[str, Any]:
    told = row._mapping if row is not None else {}
    marks = [name for name in _MARKS if told.get(f"source_is_{name}")]
    if word := told.get("source_classification"):
        marks.append(word)
    marks += from_json(told.get("lists") or "[]") or []
    return {
        "as_number": told.get("source_as_number"),
        "organization": told.get("source_as_organization_name"),
        "country": told.get("source_geo_country_iso_code"),
        "marks": tuple(marks),
        "abuse_score": told.get("source_abuse_score"),
        "reports": told.get("source_reports"),
        "known": told.get("knowledge", "unknown"),
        "services": statuses_in(told.get("intel")),
    }


def statuses_in(intel: str | None) -> dict[str, str]:
    """How each service's lookup of a source ended, of a row's `intel`."""
    told = from_json(intel) if intel else {}
    return {name: of["status"] for name, of in told.items() if name != "files"}


def origins_of(asking: Asking) -> tuple[Top[Origin], Top[Origin], tuple[KnownSince, ...]]:
    """Networks and countries with the most sessions; and since when sources were known."""
    rows = asking.rows(_ORIGINS, number=NETWORKS_SHOWN)

    def made(row: Row[Any]) -> Origin:
        return Origin(row.name, row.organization, int(row.sessions), int(row.sources), int(row.sessions_in))

    known = {row.name: row for row in rows if row.kind == "known"}
    return (
        Top.of([row for row in rows if row.kind == "network"], made),
        Top.of([row for row in rows if row.kind == "country"], made),
        tuple(
            KnownSince(words, int(known[name].sessions), int(known[name].sources))
            if name in known
            else KnownSince(words, 0, 0)
            for name, words in KNOWN.items()
        ),
    )
