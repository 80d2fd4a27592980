"""STIX 2.1: a sighting for every address, file and URL, and sensor.

https://docs.oasis-open.org/cti/stix/v2.1/os/. For each of them an indicator, and for each sensor that saw it
a sighting. An address is the source of traffic in its pattern: who reads it as a destination would block the
wrong side. A file that a service calls malicious indicates a malware; addresses indicate the campaigns that
they took part in, and so do files that join one. Every id is derived from what the
object is about, so exporting the same days again updates what a platform holds and adds nothing. Only
addresses of scope `global` are exported, and what came from them: the others are one's own, or nobody's.

Neither observed data nor the addresses, files and URLs themselves are in it: where they are, MISP's importer
(misp-stix) makes attributes of those instead of the indicators, and drops every sighting. For its sake, too,
a pattern names the protocol: one of a source alone it takes for an attribute without a type.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import IO, Any
from urllib.parse import quote

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
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
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
        for (kind, value), thing in sorted(things.items(), key=lambda item: item[0]):
            if kind == ADDRESS:
                yield from self._of_address(value, thing)
            elif kind == FILE:
                yield from self._of_file(value, thing)
            else:
                yield from self._of_url(value, thing)

    def _of_address(self, ip: str, source: Thing) -> Iterator[Any]:
        pattern = (
            f"[network-traffic:src_ref.type = 'ipv{ip_address(ip).version}-addr' "
            f"AND network-traffic:src_ref.value = '{ip}' AND network-traffic:protocols[*] = 'tcp']"
        )
        network = f"AS{source.as_number} {source.as_name or ''}".rstrip() if source.as_number else None
        name = f"{ip} visited a Cowrie honeypot"
        yield from self._sighted(ADDRESS, ip, source, name, _judgement(source), pattern, network)

    def _of_file(self, sha256: str, thing: Thing) -> Iterator[Any]:
        judgement = "malicious-activity" if thing.malware else "anomalous-activity"
        pattern = f"[file:hashes.'SHA-256' = '{sha256}']"
        name = f"{sha256} was left on a Cowrie honeypot"
        left_as = f"as {', '.join(sorted(thing.names))}" if thing.names else None
        indicator, *sightings = self._sighted(FILE, sha256, thing, name, judgement, pattern, left_as)
        yield indicator
        yield from sightings
        if thing.malware:
            malware = v21.Malware(
                id=self.id("malware", sha256), name=thing.malware, is_family=False,
                **self._common(thing.created),
            )  # fmt: skip
            yield malware
            yield v21.Relationship(
                id=self.id("relationship", "indicates", sha256), relationship_type="indicates",
                source_ref=indicator.id, target_ref=malware.id, **self._common(thing.created),
            )  # fmt: skip

    def _of_url(self, value: str, thing: Thing) -> Iterator[Any]:
        # A URL has neither blanks nor line breaks, and MISP's importer reads no pattern with one.
        written = _BLANKS.sub(lambda found: quote(found[0]), value)
        quoted = written.replace("\\", "\\\\").replace("'", "\\'")
        name = "A URL that visitors of a Cowrie honeypot fetched from"
        yield from self._sighted(URL, value, thing, name, "malicious-activity", f"[url:value = '{quoted}']")

    def _of_campaigns(self, thing: Thing, indicator: Any) -> Iterator[Any]:
        for campaign in sorted(thing.campaigns):
            yield v21.Relationship(
                id=self.id("relationship", "indicates", indicator.id, campaign), source_ref=indicator.id,
                relationship_type="indicates", target_ref=self.id("campaign", campaign),
                **self._common(thing.created),
            )  # fmt: skip

    def _sighted(
        self, kind: str, value: str, thing: Thing, name: str, judgement: str, pattern: str,
        description: str | None = None,
    ) -> Iterator[Any]:  # fmt: skip
        """An indicator and a sighting of it by each sensor."""
        about = (value,) if kind == ADDRESS else (kind, value)
        indicator = v21.Indicator(
            id=self.id("indicator", *about),
            name=name,
            indicator_types=[judgement],
            pattern=pattern,
            pattern_type="stix",
            valid_from=thing.first_seen,
            valid_until=thing.last_seen + HOLDS_FOR,
            **({"description": description} if description else {}),
            **self._common(thing.created),
        )
        yield indicator
        yield from self._of_campaigns(thing, indicator)
        for sensor, visits in sorted(thing.visits.items()):
            told = (
                f"; {visits.logins} of {visits.attempts} logins succeeded; {visits.files} files left"
                if kind == ADDRESS
                else ""
            )
            yield v21.Sighting(
                id=self.id("sighting", *about, sensor, str(self._days)),
                sighting_of_ref=indicator.id,
                where_sighted_refs=[self._sensor(sensor)],
                first_seen=visits.first_seen,
                last_seen=visits.last_seen,
                count=visits.sessions,
                description=f"{visits.sessions} sessions{told}",
                **self._common(thing.created),
            )

    def _sensor(self, sensor: str) -> str:
        return self.id("identity", "sensor", sensor)


def _judgement(source: Thing) -> str:
    """A word of STIX's indicator type vocabulary: what a visitor tried, unless a service vouches for it."""
    if source.is_scanner:
        return "benign"
    tried = any(visits.attempts or visits.files for visits in source.visits.values())
    return "malicious-activity" if tried else "anomalous-activity"
