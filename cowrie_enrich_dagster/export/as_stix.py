"""STIX 2.1: a sighting for every address and sensor (https://docs.oasis-open.org/cti/stix/v2.1/os/).

For each address: the address itself with its autonomous system, an indicator, and for each sensor that saw
it the observed data and a sighting. Every id is derived from what the object is about, so exporting the
same days again updates what a platform holds and adds nothing. Only addresses of scope `global` are exported:
the others are one's own, or nobody's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import IO, Any

from stix2 import v21

from cowrie_enrich_dagster.export.fields import Wanted, batches
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope

PRODUCER = "cowrie_enrich_dagster"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cowrie_enrich_dagster:stix")
# STIX wants an object's `created` never to change, and we keep no record of what was exported when.
_CREATED = datetime(2025, 1, 1, tzinfo=timezone.utc)
_C = table_of(EnrichedSession).c
_COLUMNS = [
    _C.source_ip, _C.sensor, _C.event_start, _C.event_end, _C.login_successes, _C.login_failures,
    _C.downloads, _C.uploads, _C.source_as_number, _C.source_as_organization_name, _C.source_is_scanner,
    _C.source_scope,
]  # fmt: skip


@dataclass
class _Visits:
    """What one sensor saw of one address."""

    first_seen: datetime
    last_seen: datetime
    sessions: int = 0
    logins: int = 0
    attempts: int = 0
    files: int = 0


@dataclass
class _Source:
    """One address: its visits by sensor, and the facts that came with its latest session."""

    visits: dict[str, _Visits]
    known_at: datetime
    as_number: int | None = None
    as_name: str | None = None
    is_scanner: bool | None = None


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write one bundle; returns how many sightings are in it."""
    with database.read() as connection:
        make = _Maker(days, database.now(connection))
    sightings = 0
    stream.write(f'{{"type":"bundle","id":"{make.id("bundle", str(days))}","objects":['.encode())
    separator = b"\n"
    for thing in make.objects(_sources(database, days)):
        stream.write(separator + thing.serialize().encode())
        separator = b",\n"
        sightings += thing.type == "sighting"
    stream.write(b"\n]}\n")
    return sightings


def _sources(database: Database, days: Days) -> dict[str, _Source]:
    sources: dict[str, _Source] = {}
    with batches(database, days, _COLUMNS) as found:
        for batch in found:
            for ip, sensor, start, end, logins, failures, downloads, uploads, *facts, scope in batch:
                if scope != Scope.GLOBAL.value:
                    continue
                source = sources.get(ip)
                if source is None:
                    source = sources[ip] = _Source({}, end, *facts)
                elif end > source.known_at:
                    source.known_at = end
                    source.as_number, source.as_name, source.is_scanner = facts
                visits = source.visits.get(sensor)
                if visits is None:
                    visits = source.visits[sensor] = _Visits(start, end)
                visits.first_seen = min(visits.first_seen, start)
                visits.last_seen = max(visits.last_seen, end)
                visits.sessions += 1
                visits.logins += logins
                visits.attempts += logins + failures
                visits.files += downloads + uploads
    return sources


class _Maker:
    """Makes the objects of one export; `modified` is its moment."""

    def __init__(self, days: Days, modified: datetime) -> None:
        self._days = days
        common = {"created": _CREATED, "modified": max(modified, _CREATED)}
        self._producer = v21.Identity(
            id=self.id("identity", "producer"), name=PRODUCER, identity_class="system", **common
        )
        self._common: Mapping[str, Any] = {**common, "created_by_ref": self._producer.id}

    @staticmethod
    def id(kind: str, *about: str) -> str:
        return f"{kind}--{uuid.uuid5(_NAMESPACE, chr(0).join((kind, *about)))}"

    def objects(self, sources: Mapping[str, _Source]) -> Iterator[Any]:
        yield self._producer
        for sensor in sorted({sensor for source in sources.values() for sensor in source.visits}):
            yield v21.Identity(id=self._sensor(sensor), name=sensor, identity_class="system", **self._common)
        networks: set[int] = set()
        for ip, source in sorted(sources.items()):
            network = None
            if source.as_number is not None and source.as_number >= 0:
                name = {"name": source.as_name} if source.as_name else {}
                network = v21.AutonomousSystem(number=source.as_number, **name)
                if source.as_number not in networks:
                    networks.add(source.as_number)
                    yield network
            yield from self._of_address(ip, source, network)

    def _of_address(self, ip: str, source: _Source, network: Any) -> Iterator[Any]:
        kind = v21.IPv4Address if ip_address(ip).version == 4 else v21.IPv6Address
        address = kind(value=ip, **({"belongs_to_refs": [network.id]} if network else {}))
        indicator = v21.Indicator(
            id=self.id("indicator", ip),
            name=f"{ip} visited a Cowrie honeypot",
            indicator_types=[_judgement(source)],
            pattern=f"[{address.type}:value = '{ip}']",
            pattern_type="stix",
            valid_from=min(visits.first_seen for visits in source.visits.values()),
            **self._common,
        )
        yield address
        yield indicator
        for sensor, visits in sorted(source.visits.items()):
            about = (ip, sensor, str(self._days))
            observed = v21.ObservedData(
                id=self.id("observed-data", *about),
                first_observed=visits.first_seen,
                last_observed=visits.last_seen,
                number_observed=visits.sessions,
                object_refs=[address.id],
                **self._common,
            )
            yield observed
            yield v21.Sighting(
                id=self.id("sighting", *about),
                sighting_of_ref=indicator.id,
                observed_data_refs=[observed.id],
                where_sighted_refs=[self._sensor(sensor)],
                first_seen=visits.first_seen,
                last_seen=visits.last_seen,
                count=visits.sessions,
                description=f"{visits.sessions} sessions; {visits.logins} of {visits.attempts} logins "
                f"succeeded; {visits.files} files left",
                **self._common,
            )

    def _sensor(self, sensor: str) -> str:
        return self.id("identity", "sensor", sensor)


def _judgement(source: _Source) -> str:
    """A word of STIX's indicator type vocabulary: what a visitor tried, unless a service vouches for it."""
    if source.is_scanner:
        return "benign"
    tried = any(visits.attempts or visits.files for visits in source.visits.values())
    return "malicious-activity" if tried else "anomalous-activity"
