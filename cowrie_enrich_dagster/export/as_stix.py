"""STIX 2.1: a sighting for every address, file and URL, and sensor.

https://docs.oasis-open.org/cti/stix/v2.1/os/. For each of them: the thing itself (an address with its
autonomous system), an indicator, and for each sensor that saw it the observed data and a sighting. An address
is the source of traffic, in the indicator's pattern as well: who reads it as a destination would block the
wrong side. A file that a service calls malicious is a sample of a malware. Addresses indicate the campaigns that
they took part in, and so do files that join one. Every id is derived from what the
object is about, so exporting the same days again updates what a platform holds and adds nothing. Only
addresses of scope `global` are exported, and what came from them: the others are one's own, or nobody's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import IO, Any

from sqlalchemy import func, select, text
from stix2 import v21

from cowrie_enrich_dagster.export.fields import WITH_CAMPAIGNS, Wanted, batches
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import Campaign, EnrichedSession, Json, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope, Subject

PRODUCER = "cowrie_enrich_dagster"
HOLDS_FOR = timedelta(days=30)
"""So long after it was last seen an indicator is valid: addresses change hands, servers are cleaned."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cowrie_enrich_dagster:stix")
_PRODUCER_CREATED = datetime(2025, 1, 1, tzinfo=timezone.utc)
_C = table_of(EnrichedSession).c
_COLUMNS = [
    _C.source_ip, _C.sensor, _C.event_start, _C.event_end, _C.login_successes, _C.login_failures,
    _C.downloads, _C.uploads, _C.network_protocol, _C.files, _C.source_as_number,
    _C.source_as_organization_name, _C.source_is_scanner, table_of(Campaign).c.campaign_id, _C.source_scope,
]  # fmt: skip
_ADDRESS, _FILE, _URL = "address", "file", "url"


@dataclass
class _Visits:
    """What one sensor saw of one thing."""

    first_seen: datetime
    last_seen: datetime
    sessions: int = 0
    logins: int = 0
    attempts: int = 0
    files: int = 0


@dataclass
class _Thing:
    """One address, file or URL: its visits by sensor, and what came with its latest session."""

    known_at: datetime
    created: datetime
    visits: dict[str, _Visits] = field(default_factory=dict)
    protocols: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    as_number: int | None = None
    as_name: str | None = None
    is_scanner: bool | None = None
    malware: str | None = None
    campaigns: set[str] = field(default_factory=set)

    def visited(self, sensor: str, start: datetime, end: datetime) -> _Visits:
        """Count one session."""
        visits = self.visits.setdefault(sensor, _Visits(start, end))
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


_Things = dict[tuple[str, str], _Thing]


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write one bundle; returns how many sightings are in it."""
    with database.read() as connection:
        make = _Maker(days, database.now(connection))
    things = _things(database, days)
    _date_back(database, days, things)
    _judge_files(database, things)
    campaigns = _campaigns(database, things)
    sightings = 0
    stream.write(f'{{"type":"bundle","id":"{make.id("bundle", str(days))}","objects":['.encode())
    separator = b"\n"
    for thing in make.objects(things, campaigns):
        stream.write(separator + thing.serialize().encode())
        separator = b",\n"
        sightings += thing.type == "sighting"
    stream.write(b"\n]}\n")
    return sightings


def _things(database: Database, days: Days) -> _Things:
    things: _Things = {}

    def visited(kind: str, value: str, sensor: str, start: datetime, end: datetime) -> tuple[_Thing, _Visits]:
        thing = things.get((kind, value))
        if thing is None:
            thing = things[kind, value] = _Thing(datetime.min.replace(tzinfo=timezone.utc), start)
        return thing, thing.visited(sensor, start, end)

    with batches(database, days, _COLUMNS, WITH_CAMPAIGNS) as found:
        for batch in found:
            for ip, sensor, start, end, logins, failures, downloads, uploads, *rest, scope in batch:
                if scope != Scope.GLOBAL.value:
                    continue
                protocol, files, as_number, as_name, is_scanner, campaign = rest
                source, visits = visited(_ADDRESS, ip, sensor, start, end)
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
                    thing, _ = visited(_FILE, sha256, sensor, start, end)
                    thing.names.update([name] if name else [])
                for url in {file["url"] for file in files or () if file["url"]}:
                    visited(_URL, url, sensor, start, end)
    return things


def _date_back(database: Database, days: Days, things: _Things) -> None:
    """An address was first seen when it was, whatever days are exported: STIX's `created` never changes."""
    of_days = select(_C.source_ip).where(_C.day.between(days.first, days.last))
    query = (
        select(_C.source_ip, func.min(_C.event_start)).where(_C.source_ip.in_(of_days)).group_by(_C.source_ip)
    )
    with database.read() as connection:
        for ip, first in connection.execute(query):
            if thing := things.get((_ADDRESS, ip)):
                thing.created = min(thing.created, first)


def _judge_files(database: Database, things: _Things) -> None:
    """Note what services call the files that they call malicious; the first in order of trust is believed."""
    hashes = [value for kind, value in things if kind == _FILE]
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
        things[_FILE, sha256].malware = labels[0] if labels else None


def _campaigns(database: Database, things: _Things) -> list[Any]:
    """The campaigns that the addresses took part in; files that join one are noted to do so."""
    table = table_of(Campaign)
    ids = sorted({campaign for thing in things.values() for campaign in thing.campaigns})
    query = select(table).where(text(database.among("campaign_id"))).order_by(table.c.campaign_id)
    with database.read() as connection:
        campaigns = list(connection.execute(query, {"keys": to_json(ids)}))
    for campaign in campaigns:
        for artefact in campaign.artefacts:
            if artefact["kind"] == "file" and (thing := things.get((_FILE, artefact["value"]))):
                thing.campaigns.add(campaign.campaign_id)
    return campaigns


class _Maker:
    """Makes the objects of one export; `modified` is its moment."""

    def __init__(self, days: Days, modified: datetime) -> None:
        self._days = days
        self._modified = modified
        self._producer = v21.Identity(
            id=self.id("identity", "producer"), name=PRODUCER, identity_class="system",
            **self._dates(_PRODUCER_CREATED),
        )  # fmt: skip

    def _dates(self, created: datetime) -> dict[str, datetime]:
        return {"created": created, "modified": max(created, self._modified)}

    def _common(self, created: datetime) -> Mapping[str, Any]:
        return {**self._dates(created), "created_by_ref": self._producer.id}

    @staticmethod
    def id(kind: str, *about: str) -> str:
        return f"{kind}--{uuid.uuid5(_NAMESPACE, chr(0).join((kind, *about)))}"

    def objects(self, things: _Things, campaigns: list[Any]) -> Iterator[Any]:
        yield self._producer
        for campaign in campaigns:
            yield v21.Campaign(
                id=self.id("campaign", campaign.campaign_id),
                name=campaign.label,
                description=f"{campaign.sessions} sessions of {campaign.sources} sources",
                first_seen=campaign.first_seen,
                last_seen=campaign.last_seen,
                **self._common(campaign.first_seen),
            )
        for sensor in sorted({sensor for thing in things.values() for sensor in thing.visits}):
            common = self._common(_PRODUCER_CREATED)
            yield v21.Identity(id=self._sensor(sensor), name=sensor, identity_class="system", **common)
        networks: set[int] = set()
        for (kind, value), thing in sorted(things.items(), key=lambda item: item[0]):
            if kind == _ADDRESS:
                network = _network(thing)
                if network is not None and thing.as_number not in networks:
                    networks.add(network.number)
                    yield network
                yield from self._of_address(value, thing, network)
            elif kind == _FILE:
                yield from self._of_file(value, thing)
            else:
                yield from self._of_url(value, thing)

    def _of_address(self, ip: str, source: _Thing, network: Any) -> Iterator[Any]:
        kind = v21.IPv4Address if ip_address(ip).version == 4 else v21.IPv6Address
        address = kind(value=ip, **({"belongs_to_refs": [network.id]} if network else {}))
        traffic = v21.NetworkTraffic(src_ref=address.id, protocols=["tcp", *sorted(source.protocols)])
        pattern = (
            f"[network-traffic:src_ref.type = '{address.type}' AND network-traffic:src_ref.value = '{ip}']"
        )
        name = f"{ip} visited a Cowrie honeypot"
        indicator = self._indicator(_ADDRESS, ip, source, name, _judgement(source), pattern)
        yield address
        yield traffic
        yield indicator
        yield from self._of_campaigns(source, indicator)
        yield from self._sightings(_ADDRESS, ip, source, indicator, [address, traffic])

    def _of_file(self, sha256: str, thing: _Thing) -> Iterator[Any]:
        names = {"name": min(thing.names)} if thing.names else {}
        file = v21.File(hashes={"SHA-256": sha256}, **names)
        judgement = "malicious-activity" if thing.malware else "anomalous-activity"
        pattern = f"[file:hashes.'SHA-256' = '{sha256}']"
        name = f"{sha256} was left on a Cowrie honeypot"
        indicator = self._indicator(_FILE, sha256, thing, name, judgement, pattern)
        yield file
        yield indicator
        yield from self._of_campaigns(thing, indicator)
        yield from self._sightings(_FILE, sha256, thing, indicator, [file])
        if thing.malware:
            malware = v21.Malware(
                id=self.id("malware", sha256), name=thing.malware, is_family=False, sample_refs=[file.id],
                **self._common(thing.created),
            )  # fmt: skip
            yield malware
            yield v21.Relationship(
                id=self.id("relationship", "indicates", sha256), relationship_type="indicates",
                source_ref=indicator.id, target_ref=malware.id, **self._common(thing.created),
            )  # fmt: skip

    def _of_url(self, value: str, thing: _Thing) -> Iterator[Any]:
        url = v21.URL(value=value)
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        name = "A URL that visitors of a Cowrie honeypot fetched from"
        indicator = self._indicator(
            _URL, value, thing, name, "malicious-activity", f"[url:value = '{quoted}']"
        )
        yield url
        yield indicator
        yield from self._sightings(_URL, value, thing, indicator, [url])

    def _of_campaigns(self, thing: _Thing, indicator: Any) -> Iterator[Any]:
        for campaign in sorted(thing.campaigns):
            yield v21.Relationship(
                id=self.id("relationship", "indicates", indicator.id, campaign), relationship_type="indicates",
                source_ref=indicator.id, target_ref=self.id("campaign", campaign),
                **self._common(thing.created),
            )  # fmt: skip

    def _indicator(
        self, kind: str, value: str, thing: _Thing, name: str, judgement: str, pattern: str
    ) -> Any:
        about = (value,) if kind == _ADDRESS else (kind, value)
        return v21.Indicator(
            id=self.id("indicator", *about),
            name=name,
            indicator_types=[judgement],
            pattern=pattern,
            pattern_type="stix",
            valid_from=thing.first_seen,
            valid_until=thing.last_seen + HOLDS_FOR,
            **self._common(thing.created),
        )

    def _sightings(
        self, kind: str, value: str, thing: _Thing, indicator: Any, objects: list[Any]
    ) -> Iterator[Any]:
        for sensor, visits in sorted(thing.visits.items()):
            about = (*((value,) if kind == _ADDRESS else (kind, value)), sensor, str(self._days))
            observed = v21.ObservedData(
                id=self.id("observed-data", *about),
                first_observed=visits.first_seen,
                last_observed=visits.last_seen,
                number_observed=visits.sessions,
                object_refs=[thing.id for thing in objects],
                **self._common(thing.created),
            )
            yield observed
            told = (
                f"; {visits.logins} of {visits.attempts} logins succeeded; {visits.files} files left"
                if kind == _ADDRESS
                else ""
            )
            yield v21.Sighting(
                id=self.id("sighting", *about),
                sighting_of_ref=indicator.id,
                observed_data_refs=[observed.id],
                where_sighted_refs=[self._sensor(sensor)],
                first_seen=visits.first_seen,
                last_seen=visits.last_seen,
                count=visits.sessions,
                description=f"{visits.sessions} sessions{told}",
                **self._common(thing.created),
            )

    def _sensor(self, sensor: str) -> str:
        return self.id("identity", "sensor", sensor)


def _network(source: _Thing) -> Any:
    if source.as_number is None or source.as_number < 0:
        return None
    return v21.AutonomousSystem(
        number=source.as_number, **({"name": source.as_name} if source.as_name else {})
    )


def _judgement(source: _Thing) -> str:
    """A word of STIX's indicator type vocabulary: what a visitor tried, unless a service vouches for it."""
    if source.is_scanner:
        return "benign"
    tried = any(visits.attempts or visits.files for visits in source.visits.values())
    return "malicious-activity" if tried else "anomalous-activity"
