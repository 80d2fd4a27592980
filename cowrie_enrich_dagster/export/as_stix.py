"""STIX 2.1: a sighting for every address, file and URL, and sensor.

https://docs.oasis-open.org/cti/stix/v2.1/os/. For each of them: the thing itself (an address with its
autonomous system), an indicator, and for each sensor that saw it the observed data and a sighting. An address
is the source of traffic, in the indicator's pattern as well: who reads it as a destination would block the
wrong side. A file that a service calls malicious is a sample of a malware. Addresses indicate the campaigns
that they took part in, and so do files that join one. Every id is derived from what the object is about, so
exporting the same days again updates what a platform holds and adds nothing. Only addresses of scope `global`
are exported, and what came from them: the others are one's own, or nobody's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import IO, Any

from stix2 import v21

from cowrie_enrich_dagster.export.fields import Wanted
from cowrie_enrich_dagster.export.stix_things import (
    ADDRESS,
    FILE,
    URL,
    Thing,
    Things,
    campaigns_of,
    date_back,
    judge_files,
    things_of,
)
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

PRODUCER = "cowrie_enrich_dagster"
HOLDS_FOR = timedelta(days=30)
"""So long after it was last seen an indicator is valid: addresses change hands, servers are cleaned."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cowrie_enrich_dagster:stix")
_PRODUCER_CREATED = datetime(2025, 1, 1, tzinfo=timezone.utc)


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write one bundle; returns how many sightings are in it."""
    with database.read() as connection:
        make = _Maker(days, database.now(connection))
    things = things_of(database, days)
    date_back(database, days, things)
    judge_files(database, things)
    campaigns = campaigns_of(database, things)
    sightings = 0
    stream.write(f'{{"type":"bundle","id":"{make.id("bundle", str(days))}","objects":['.encode())
    separator = b"\n"
    for thing in make.objects(things, campaigns):
        stream.write(separator + thing.serialize().encode())
        separator = b",\n"
        sightings += thing.type == "sighting"
    stream.write(b"\n]}\n")
    return sightings


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

    def objects(self, things: Things, campaigns: list[Any]) -> Iterator[Any]:
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
            if kind == ADDRESS:
                network = _network(thing)
                if network is not None and thing.as_number not in networks:
                    networks.add(network.number)
                    yield network
                yield from self._of_address(value, thing, network)
            elif kind == FILE:
                yield from self._of_file(value, thing)
            else:
                yield from self._of_url(value, thing)

    def _of_address(self, ip: str, source: Thing, network: Any) -> Iterator[Any]:
        kind = v21.IPv4Address if ip_address(ip).version == 4 else v21.IPv6Address
        address = kind(value=ip, **({"belongs_to_refs": [network.id]} if network else {}))
        traffic = v21.NetworkTraffic(src_ref=address.id, protocols=["tcp", *sorted(source.protocols)])
        pattern = (
            f"[network-traffic:src_ref.type = '{address.type}' AND network-traffic:src_ref.value = '{ip}']"
        )
        name = f"{ip} visited a Cowrie honeypot"
        indicator = self._indicator(ADDRESS, ip, source, name, _judgement(source), pattern)
        yield address
        yield traffic
        yield indicator
        yield from self._of_campaigns(source, indicator)
        yield from self._sightings(ADDRESS, ip, source, indicator, [address, traffic])

    def _of_file(self, sha256: str, thing: Thing) -> Iterator[Any]:
        names = {"name": min(thing.names)} if thing.names else {}
        file = v21.File(hashes={"SHA-256": sha256}, **names)
        judgement = "malicious-activity" if thing.malware else "anomalous-activity"
        pattern = f"[file:hashes.'SHA-256' = '{sha256}']"
        name = f"{sha256} was left on a Cowrie honeypot"
        indicator = self._indicator(FILE, sha256, thing, name, judgement, pattern)
        yield file
        yield indicator
        yield from self._of_campaigns(thing, indicator)
        yield from self._sightings(FILE, sha256, thing, indicator, [file])
        if thing.malware:
            malware = v21.Malware(
                id=self.id("malware", sha256), name=thing.malware, is_family=False, sample_refs=[file.id],
                **self._common(thing.created),
            )  # fmt: skip
            yield malware
            yield v21.Relationship(
                id=self.id("relationship", "indicates", sha256), source_ref=indicator.id,
                relationship_type="indicates", target_ref=malware.id, **self._common(thing.created),
            )  # fmt: skip

    def _of_url(self, value: str, thing: Thing) -> Iterator[Any]:
        url = v21.URL(value=value)
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        name = "A URL that visitors of a Cowrie honeypot fetched from"
        indicator = self._indicator(
            URL, value, thing, name, "malicious-activity", f"[url:value = '{quoted}']"
        )
        yield url
        yield indicator
        yield from self._sightings(URL, value, thing, indicator, [url])

    def _of_campaigns(self, thing: Thing, indicator: Any) -> Iterator[Any]:
        for campaign in sorted(thing.campaigns):
            yield v21.Relationship(
                id=self.id("relationship", "indicates", indicator.id, campaign), source_ref=indicator.id,
                relationship_type="indicates", target_ref=self.id("campaign", campaign),
                **self._common(thing.created),
            )  # fmt: skip

    def _indicator(self, kind: str, value: str, thing: Thing, name: str, judgement: str, pattern: str) -> Any:
        about = (value,) if kind == ADDRESS else (kind, value)
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
        self, kind: str, value: str, thing: Thing, indicator: Any, objects: list[Any]
    ) -> Iterator[Any]:
        for sensor, visits in sorted(thing.visits.items()):
            about = (*((value,) if kind == ADDRESS else (kind, value)), sensor, str(self._days))
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
                if kind == ADDRESS
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


def _network(source: Thing) -> Any:
    if source.as_number is None or source.as_number < 0:
        return None
    return v21.AutonomousSystem(
        number=source.as_number, **({"name": source.as_name} if source.as_name else {})
    )


def _judgement(source: Thing) -> str:
    """A word of STIX's indicator type vocabulary: what a visitor tried, unless a service vouches for it."""
    if source.is_scanner:
        return "benign"
    tried = any(visits.attempts or visits.files for visits in source.visits.values())
    return "malicious-activity" if tried else "anomalous-activity"
