"""What the campaigns of single days come to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Date, bindparam, text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days

LARGEST = 10
_OF_DAYS = """
    SELECT t.day, c.campaign_id, c.label, c.first_seen, t.sessions, t.sources, c.sessions AS all_sessions
    FROM (
        SELECT day, campaign_id, count(*) AS sessions, count(DISTINCT src_ip) AS sources
        FROM session_campaigns WHERE day BETWEEN :first AND :last GROUP BY day, campaign_id
    ) AS t JOIN campaigns AS c ON c.campaign_id = t.campaign_id
    ORDER BY t.day, t.sessions DESC, c.campaign_id
"""


class CampaignOfDay(NamedTuple):
    """A campaign on one day: its sessions and sources then, and its sessions in all."""

    campaign_id: str
    label: str
    first_seen: datetime
    sessions: int
    sources: int
    all_sessions: int


@dataclass
class DayOfCampaigns:
    """How many campaigns had sessions on a day, how many began on it, their sessions, and the largest."""

    campaigns: int = 0
    new: int = 0
    sessions: int = 0
    largest: list[CampaignOfDay] = field(default_factory=list)


def campaigns_of_days(database: Database, days: Days) -> dict[date, DayOfCampaigns]:
    """Every one of the days, with what its campaigns come to."""
    query = (
        text(_OF_DAYS)
        .bindparams(bindparam("first", days.first, Date), bindparam("last", days.last, Date))
        .columns(day=Date, first_seen=UtcDateTime)
    )
    told: defaultdict[date, DayOfCampaigns] = defaultdict(DayOfCampaigns)
    with database.read() as connection:
        for day, *values in connection.execute(query):
            one, of_day = CampaignOfDay(*values), told[day]
            of_day.campaigns += 1
            of_day.sessions += one.sessions
            of_day.new += one.first_seen.date() == day
            if len(of_day.largest) < LARGEST:
                of_day.largest.append(one)
    return {day: told[day] for day in days}
