"""What a STIX bundle is about: every address, file and URL of some days, and who saw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import func, select, text

from cowrie_enrich_dagster.export.fields import WITH_CAMPAIGNS, batches
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import Campaign, EnrichedSession, Json, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope, Subject

_C = table_of(EnrichedSession).c
_COLUMNS = [
    _C.source_ip, _C.sensor, _C.event_start, _C.event_end, _C.login_successes, _C.login_failures,
    _C.downloads, _C.uploads, _C.network_protocol, _C.files, _C.source_as_number,
    _C.source_as_organization_name, _C.source_is_scanner, table_of(Campaign).c.campaign_id, _C.source_scope,
]  # fmt: skip
ADDRESS, FILE, URL = "address", "file", "url"


@dataclass
class Visits:
    """What one sensor saw of one thing."""

    first_seen: datetime
    last_seen: datetime
    sessions: int = 0
    logins: int = 0
    attempts: int = 0
    files: int = 0


@dataclass
class Thing:
    """One address, file or URL: its visits by sensor, and what came with its latest session."""

    known_at: datetime
    created: datetime
    visits: dict[str, Visits] = field(default_factory=dict)
    protocols: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    as_number: int | None = None
    as_name: str | None = None
    is_scanner: bool | None = None
    malware: str | None = None
    campaigns: set[str] = field(default_factory=set)

    def visited(self, sensor: str, start: datetime, end: datetime) -> Visits:
        """Count one session."""
        visits = self.visits.setdefault(sensor, Visits(start, end))
        visits.first_seen = min(visits.first_seen, start)
        visits.last_seen = max(visits.last_seen, end)
        visits.sessions += 1
        self.created = min(self.created, start)
        return visits

    @property
    def first_seen(self) -> datetime:
        return min(visits.first_seen for visits in self.visits.values())

    @property
    def last_seen(self) -> datetime:
        return max(visits.last_seen for visits in self.visits.values())


Things = dict[tuple[str, str], Thing]


def things_of(database: Database, days: Days) -> Things:
    """What there is of the days, by kind and value."""
    things: Things = {}

    def visited(kind: str, value: str, sensor: str, start: datetime, end: datetime) -> tuple[Thing, Visits]:
        thing = things.get((kind, value))
        if thing is None:
            thing = things[kind, value] = Thing(datetime.min.replace(tzinfo=timezone.utc), start)
        return thing, thing.visited(sensor, start, end)

    with batches(database, days, _COLUMNS, WITH_CAMPAIGNS) as found:
        for batch in found:
            for ip, sensor, start, end, logins, failures, downloads, uploads, *rest, scope in batch:
                if scope != Scope.GLOBAL.value:
                    continue
                protocol, files, as_number, as_name, is_scanner, campaign = rest
                source, visits = visited(ADDRESS, ip, sensor, start, end)
                if end > source.known_at:
                    source.known_at = end
                    source.as_number, source.as_name, source.is_scanner = as_number, as_name, is_scanner
                if campaign:
                    source.campaigns.add(campaign)
                if protocol:
                    source.protocols.add(protocol)
                visits.logins += logins
                visits.attempts += logins + failures
                visits.files += downloads + uploads
                hashes = {file["sha256"]: file["name"] for file in files or () if file["sha256"]}
                for sha256, name in hashes.items():
                    thing, _ = visited(FILE, sha256, sensor, start, end)
                    thing.names.update([name] if name else [])
                for url in {file["url"] for file in files or () if file["url"]}:
                    visited(URL, url, sensor, start, end)
    return things


def date_back(database: Database, days: Days, things: Things) -> None:
    """An address was first seen when it was, whatever days are exported: STIX's `created` never changes."""
    of_days = select(_C.source_ip).where(_C.day.between(days.first, days.last))
    query = (
        select(_C.source_ip, func.min(_C.event_start)).where(_C.source_ip.in_(of_days)).group_by(_C.source_ip)
    )
    with database.read() as connection:
        for ip, first in connection.execute(query):
            if thing := things.get((ADDRESS, ip)):
                thing.created = min(thing.created, first)


def judge_files(database: Database, things: Things) -> None:
    """Note what services call the files that they call malicious; the first in order of trust is believed."""
    hashes = [value for kind, value in things if kind == FILE]
    query = text(
        f"SELECT service, key, payload FROM answers WHERE status = 'found' AND {database.among('key')} "
        "ORDER BY fetched_at"
    ).columns(payload=Json)
    verdicts: dict[str, dict[str, str | None]] = {}
    with database.read() as connection:
        for service, sha256, payload in connection.execute(query, {"keys": to_json(hashes)}):
            if service in ALL and ALL[service].subject is Subject.FILE_SHA256 and payload:
                facts = ALL[service].facts(payload)
                label = (facts.file_label or "malware") if facts.malicious else None
                verdicts.setdefault(sha256, {})[service] = label
    for sha256, by_service in verdicts.items():
        labels = [by_service[service] for service in ALL if by_service.get(service)]
        things[FILE, sha256].malware = labels[0] if labels else None


def campaigns_of(database: Database, things: Things) -> list[Any]:
    """The campaigns that the addresses took part in; files that join one are noted to do so."""
    table = table_of(Campaign)
    ids = sorted({campaign for thing in things.values() for campaign in thing.campaigns})
    query = select(table).where(text(database.among("campaign_id"))).order_by(table.c.campaign_id)
    with database.read() as connection:
        campaigns = list(connection.execute(query, {"keys": to_json(ids)}))
    for campaign in campaigns:
        for artefact in campaign.artefacts:
            if artefact["kind"] == "file" and (thing := things.get((FILE, artefact["value"]))):
                thing.campaigns.add(campaign.campaign_id)
    return campaigns
