"""What is unusual: campaigns, files, keys and networks never there before, scripts that one address typed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timezone
from typing import Any

from sqlalchemy import Row

from cowrie_enrich_dagster.report.deeds import Script, Scripts
from cowrie_enrich_dagster.report.query import Query, Top

NEWS_SHOWN = 8


@dataclass(frozen=True)
class First:
    """Something that no session before these days had: `value`, and what it is called where it has a name."""

    value: str
    name: str | None
    sessions: int
    sources: int
    first_seen: datetime


@dataclass(frozen=True)
class News:
    """What is new on these days (None: there are no days before them to compare with), and rare scripts.

    A script is rare that one address alone typed, and nobody before. `keys` are public keys that were shown
    at logins, by their fingerprint; `networks` are AS numbers; of `campaigns` no session began earlier.
    """

    campaigns: Top[First] | None
    files: Top[First] | None
    keys: Top[First] | None
    networks: Top[First] | None
    rare_scripts: Top[Script]


_FIRST = """
    SELECT CAST({value} AS text) AS value, max({name}) AS name, count(*) AS sessions,
        count(DISTINCT {ip}) AS sources, min({start}) AS first_seen, count(*) OVER () AS of_all
    FROM {table} WHERE day BETWEEN :first AND :last AND {value} IS NOT NULL
      AND {value} NOT IN (SELECT {value} FROM {table} WHERE day < :first AND {value} IS NOT NULL)
    GROUP BY {value} ORDER BY count(DISTINCT {ip}) DESC, min({start}), {value} LIMIT :number
"""
_OF_SESSIONS = {"ip": "src_ip", "start": "started_at"}
_KINDS = {
    "files": {**_OF_SESSIONS, "value": "sha256", "name": "name", "table": "session_files"},
    "keys": {**_OF_SESSIONS, "value": '"key"', "name": "username", "table": "session_logins"},
    "networks": {
        "value": "source_as_number", "name": "source_as_organization_name", "table": "enriched_sessions",
        "ip": "source_ip", "start": "event_start",
    },
}  # fmt: skip
_CAMPAIGNS = """
    SELECT c.campaign_id AS value, c.label AS name, count(*) AS sessions,
        count(DISTINCT s.src_ip) AS sources, c.first_seen, count(*) OVER () AS of_all
    FROM session_campaigns AS s JOIN campaigns AS c ON c.campaign_id = s.campaign_id
    WHERE s.day BETWEEN :first AND :last AND c.first_seen >= :begin
    GROUP BY c.campaign_id, c.label, c.first_seen
    ORDER BY count(DISTINCT s.src_ip) DESC, c.first_seen, c.campaign_id LIMIT :number
"""


def news_of(asking: Query, scripts: Scripts, *, has_past: bool) -> News:
    """What is new; `has_past`: there are days before these."""
    found: dict[str, Top[First] | None] = dict.fromkeys([*_KINDS, "campaigns"])
    if has_past:
        begin = datetime.combine(asking.days.first, time(), timezone.utc)
        rows = asking.rows(_CAMPAIGNS, "first_seen", begin=begin, number=NEWS_SHOWN)
        found["campaigns"] = Top.of(rows, _first)
        for kind, words in _KINDS.items():
            rows = asking.rows(_FIRST.format(**words), "first_seen", number=NEWS_SHOWN)
            found[kind] = Top.of(rows, _first)
    return News(**found, rare_scripts=scripts.rare())


def _first(row: Row[Any]) -> First:
    return First(row.value, row.name, row.sessions, row.sources, row.first_seen)
