"""Every figure of the report on some days, from one place and of one moment.

The page, `cowrie-enrich report --json`, the asset `attack_report` and the lines after a run show these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report.campaigns import CampaignOfDays, campaigns_of, days_without
from cowrie_enrich_dagster.report.deeds import (
    BroughtFile,
    Credential,
    Script,
    Scripts,
    Target,
    Word,
    credentials_of,
    files_of,
    tunnels_of,
)
from cowrie_enrich_dagster.report.gaps import Gap, by_service, gaps_of
from cowrie_enrich_dagster.report.news import News, news_of
from cowrie_enrich_dagster.report.query import Query, Top, plain
from cowrie_enrich_dagster.report.sources import (
    KnownSince,
    Origin,
    Source,
    busiest,
    newest_of_each,
    origins_of,
    sources_of,
    statuses_in,
)
from cowrie_enrich_dagster.report.totals import (
    NotTold,
    Records,
    Slot,
    Totals,
    days_before,
    records_of,
    timeline_of,
    totals_of,
)
from cowrie_enrich_dagster.vocabulary import Days


@dataclass(frozen=True)
class Outline:
    """What the first sentences about `days` say, as it was at `made_at` (see `words.headline`).

    `before` are the totals of `days_before`; None where nothing is on record of them.
    """

    days: Days
    days_before: Days
    made_at: datetime
    records: Records
    totals: Totals
    before: Totals | None
    not_told: NotTold
    news: News
    gaps: tuple[Gap, ...]

    @property
    def has_past(self) -> bool:
        """Whether there are days on record before these, so that something can be new."""
        return self.records.reach_before(self.days)


@dataclass(frozen=True)
class Figures(Outline):
    """The answers to whatever a reader asks about the days."""

    timeline: tuple[Slot, ...]
    sources: Top[Source]
    networks: Top[Origin]
    countries: Top[Origin]
    known_since: tuple[KnownSince, ...]
    credentials: Top[Credential]
    usernames: Top[Word]
    passwords: Top[Word]
    scripts: Top[Script]
    campaigns: Top[CampaignOfDays]
    days_without_campaigns: int
    files: Top[BroughtFile]
    tunnels: Top[Target]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form (`cowrie-enrich report --json`); a list is `{shown, total, left_out}`."""
        figures: dict[str, Any] = plain(self)
        return figures


def figures_of(enricher: Enricher, days: Days) -> Figures:
    """Answer every question about the days; only reads."""
    database = enricher.database
    with database.read() as connection:
        asking = Query(database, connection, days)
        top = busiest(asking)
        known, statuses = _read_newest(asking, {row.src_ip for row in top})
        scripts = Scripts(asking)
        outline = _outline(enricher, asking, scripts, statuses)
        networks, countries, known_since = origins_of(asking)
        credentials, usernames, passwords = credentials_of(asking)
        return Figures(
            **vars(outline),
            timeline=timeline_of(asking),
            sources=sources_of(asking, top, known, outline.has_past),
            networks=networks,
            countries=countries,
            known_since=known_since,
            credentials=credentials,
            usernames=usernames,
            passwords=passwords,
            scripts=scripts.commonest(),
            campaigns=campaigns_of(asking, has_past=outline.has_past),
            days_without_campaigns=days_without(asking),
            files=files_of(asking, has_past=outline.has_past),
            tunnels=tunnels_of(asking),
        )


def outline_of(enricher: Enricher, days: Days) -> Outline:
    """Answer what the first sentences say and nothing else: it is read after every run on a terminal."""
    database = enricher.database
    with database.read() as connection:
        asking = Query(database, connection, days)
        _, statuses = _read_newest(asking, set())
        return _outline(enricher, asking, Scripts(asking), statuses)


def _outline(
    enricher: Enricher, asking: Query, scripts: Scripts, statuses: Mapping[str, Mapping[str, int]]
) -> Outline:
    totals, not_told = totals_of(asking)
    earlier = Query(asking.database, asking.connection, days_before(asking.days))
    before, _ = totals_of(earlier)
    records = records_of(asking)
    return Outline(
        days=asking.days,
        days_before=earlier.days,
        made_at=asking.database.now(asking.connection),
        records=records,
        totals=totals,
        before=before if before.sessions else None,
        not_told=not_told,
        news=news_of(asking, scripts, has_past=records.reach_before(asking.days)),
        gaps=gaps_of(enricher, asking, statuses),
    )


def _read_newest(asking: Query, wanted: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """In one pass: the newest rows of the wanted sources, and of all the statuses by service."""
    kept: dict[str, Any] = {}

    def statuses() -> Iterable[dict[str, str]]:
        for row in newest_of_each(asking):
            if row.source_ip in wanted:
                kept[row.source_ip] = row
            yield statuses_in(row.intel)

    return kept, by_service(statuses())
