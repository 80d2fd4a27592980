"""Which of the days' sessions belong together, by what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from cowrie_enrich_dagster.report.query import Query, Top

CAMPAIGNS_SHOWN, ARTEFACTS_SHOWN = 10, 5


@dataclass(frozen=True)
class CampaignOfDays:
    """A campaign by its id and label, and its part of the days; `first_seen` is of all its days.

    `artefacts` are what joins its sessions, `{kind, value, sessions}`, those of most sessions first.
    """

    campaign_id: str
    label: str
    sessions: int
    sources: int
    sensors: int
    first_seen: datetime
    last_seen: datetime
    is_new: bool
    artefacts: Top[Mapping[str, Any]]


_CAMPAIGNS = """
    WITH these AS (
        SELECT campaign_id, count(*) AS sessions, count(DISTINCT src_ip) AS sources,
            count(DISTINCT sensor) AS sensors
        FROM session_campaigns WHERE day BETWEEN :first AND :last GROUP BY campaign_id
    )
    SELECT t.campaign_id, c.label, t.sessions, t.sources, t.sensors, c.first_seen, c.last_seen,
        c.artefacts, count(*) OVER () AS of_all
    FROM these AS t JOIN campaigns AS c ON c.campaign_id = t.campaign_id
    ORDER BY t.sources DESC, t.sessions DESC, t.campaign_id LIMIT :number
"""


def campaigns_of(asking: Query, *, has_past: bool) -> Top[CampaignOfDays]:
    """The campaigns with the most sources on the days; `has_past`: there are days before these."""

    def made(row: Row[Any]) -> CampaignOfDays:
        return CampaignOfDays(
            row.campaign_id,
            row.label,
            row.sessions,
            row.sources,
            row.sensors,
            row.first_seen,
            row.last_seen,
            has_past and row.first_seen.date() >= asking.days.first,
            Top.among(row.artefacts, ARTEFACTS_SHOWN),
        )

    rows = asking.rows(_CAMPAIGNS, "first_seen", "last_seen", lists=("artefacts",), number=CAMPAIGNS_SHOWN)
    return Top.of(rows, made)


def days_without(asking: Query) -> int:
    """How many of the days have sessions whose campaigns are yet to be found."""
    query = "SELECT count(*) AS days FROM days_without_campaigns WHERE day BETWEEN :first AND :last"
    return int(asking.rows(query)[0].days)
