"""STIX 2.1 bundles that the stix2 library accepts, and that update rather than repeat."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import stix2
from sqlalchemy import update
from stix2patterns.v21.pattern import Pattern

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.export import ExportFormat, export_days
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import EnrichedSession, table_of
from tests.integration.export.conftest import DAY, HOSTILE, START, session, store


def bundle(database: Database, path: Path) -> dict[str, list[Any]]:
    """The objects by type, as stix2 parses and checks them."""
    export_days(database, DAY, ExportFormat.STIX, path)
    parsed = stix2.parse(path.read_text(encoding="utf-8"), version="2.1", allow_custom=False)
    found: dict[str, list[Any]] = {}
    for thing in parsed.objects:
        found.setdefault(thing.type, []).append(thing)
    return found


def test_sessions_become_one_sighting_for_each_address_and_sensor(database: Database, tmp_path: Path) -> None:
    """Counts, first and last seen are those of the sessions; references lead to objects in the bundle."""
    store(
        database,
        [
            session(1),
            session(2, event_start=START - timedelta(hours=1), login_successes=0),
            session(3, sensor="pot-2", event_end=START + timedelta(hours=1)),
            session(4, source_ip="2a00:1450::5", source_as_number=None, login_failures=0, login_successes=0,
                    downloads=0),
            session(5, source_ip="9.9.9.9", source_is_scanner=True),
        ],
    )  # fmt: skip
    found = bundle(database, tmp_path / "out.json")
    assert set(found) == {"identity", "indicator", "sighting"}
    assert {thing.name for thing in found["identity"]} == {"cowrie_enrich_dagster", "pot-1", "pot-2"}
    everything = {thing.id: thing for things in found.values() for thing in things}
    seen = {
        (
            everything[sighting.sighting_of_ref].name.removesuffix(" visited a Cowrie honeypot"),
            everything[sighting.where_sighted_refs[0]].name,
        ): sighting
        for sighting in found["sighting"]
    }
    assert set(seen) == {
        ("8.8.4.4", "pot-1"), ("8.8.4.4", "pot-2"), ("2a00:1450::5", "pot-1"), ("9.9.9.9", "pot-1"),
    }  # fmt: skip
    ours = seen["8.8.4.4", "pot-1"]
    assert (ours["count"], ours.first_seen, ours.last_seen) == (
        2, START - timedelta(hours=1), START + timedelta(milliseconds=2500),
    )  # fmt: skip
    assert ours.description == "2 sessions; 1 of 7 logins succeeded; 2 files left"
    judged = {everything[s.sighting_of_ref].pattern: everything[s.sighting_of_ref] for s in seen.values()}
    from_source = (
        "[network-traffic:src_ref.type = '{}' AND network-traffic:src_ref.value = '{}' "
        "AND network-traffic:protocols[*] = 'tcp']"
    )
    assert {pattern: indicator.indicator_types for pattern, indicator in judged.items()} == {
        from_source.format("ipv4-addr", "8.8.4.4"): ["malicious-activity"],
        from_source.format("ipv4-addr", "9.9.9.9"): ["benign"],
        from_source.format("ipv6-addr", "2a00:1450::5"): ["anomalous-activity"],
    }
    ours = judged[from_source.format("ipv4-addr", "8.8.4.4")]
    assert (ours.created, ours.valid_from) == (START - timedelta(hours=1),) * 2
    assert ours.valid_until == START + timedelta(hours=1, days=30)
    assert ours.description == "AS4200000001 Example Org"


def test_a_second_export_updates_the_same_objects(database: Database, tmp_path: Path) -> None:
    """Ids and `created` stay, `modified` grows: a platform replaces what it holds."""
    store(database, [session(1)])
    first = bundle(database, tmp_path / "1.json")
    enriched = table_of(EnrichedSession)
    with database.write() as connection:
        connection.execute(update(enriched).values(login_failures=9))
    second = bundle(database, tmp_path / "2.json")
    for kind, things in first.items():
        assert [thing.id for thing in things] == [thing.id for thing in second[kind]]
    assert first["sighting"][0].created == second["sighting"][0].created
    assert first["sighting"][0].modified < second["sighting"][0].modified


def test_own_and_unroutable_addresses_are_not_published(database: Database, tmp_path: Path) -> None:
    """Only addresses of scope `global` become indicators."""
    scopes = ("own", "private", "loopback", "reserved", "invalid")
    rows = [session(n, source_ip=f"5.6.7.{n}", source_scope=scope) for n, scope in enumerate(scopes)]
    store(database, [*rows, session(9, source_ip=None, source_scope="invalid")])
    assert set(bundle(database, tmp_path / "out.json")) == {"identity"}


def test_hostile_names_stay_names(database: Database, tmp_path: Path) -> None:
    """Names of networks and sensors come back exactly; none can break out of its object."""
    texts = [text for text in HOSTILE if text]
    store(
        database,
        [
            session(
                n,
                source_ip=f"8.8.{n}.4",
                source_as_number=n,
                source_as_organization_name=text,
                sensor=text[:128],
            )
            for n, text in enumerate(texts)
        ],
    )
    found = bundle(database, tmp_path / "out.json")
    assert {thing.get("description") for thing in found["indicator"]} == {
        f"AS{n} {text}".rstrip() if n else None for n, text in enumerate(texts)
    }
    assert {thing.name for thing in found["identity"]} == {"cowrie_enrich_dagster", *(t[:128] for t in texts)}


def test_files_and_urls_with_their_verdicts(database: Database, tmp_path: Path) -> None:
    """What a service calls malicious is a sample of a malware; attackers' texts cannot leave a pattern."""
    good, bad = "ab" * 32, "cd" * 32
    url = "http://198.51.100.9/x'] OR [file:name = '\\\\"
    files = [
        {"sha256": bad, "url": url, "name": None, "how": "download"},
        {"sha256": good, "url": None, "name": "x'\u202e", "how": "upload"},
        {"sha256": None, "url": "http://a.example/\r\n b", "name": None, "how": "failed"},
    ]
    store(
        database,
        [
            session(1, files=files),
            session(2, files=files[:1], sensor="pot-2"),
            session(3, files=[{**files[0], "sha256": "ef" * 32}], source_scope="private"),
        ],
    )
    stats = {"malicious": 40, "suspicious": 0}
    attributes = {
        "last_analysis_stats": stats,
        "popular_threat_classification": {"suggested_threat_label": "trojan.x"},
    }
    payload = {"data": {"id": bad, "type": "file", "attributes": attributes}}
    cache = DatabaseCache(database)
    cache.set(CacheEntry.of_answer("virustotal", bad, payload, fetched_at=START, ttl=timedelta(days=30)))
    found = bundle(database, tmp_path / "out.json")
    left_as = {thing.pattern: thing.get("description") for thing in found["indicator"]}
    assert left_as[f"[file:hashes.'SHA-256' = '{bad}']"] is None
    assert left_as[f"[file:hashes.'SHA-256' = '{good}']"] == "as x'\u202e"
    quoted = [Pattern(p).inspect().comparisons["url"][0][2][1:-1] for p in left_as if p.startswith("[url")]
    assert {re.sub(r"\\(.)", r"\1", text) for text in quoted} == {
        url.replace(" ", "%20"),
        "http://a.example/%0D%0A%20b",
    }
    (malware,) = found["malware"]
    assert malware.name == "trojan.x"
    (relationship,) = found["relationship"]
    indicators = {thing.id: thing for thing in found["indicator"]}
    assert indicators[relationship.source_ref].pattern == f"[file:hashes.'SHA-256' = '{bad}']"
    assert indicators[relationship.source_ref].indicator_types == ["malicious-activity"]
    sighted = Counter(indicators[sighting.sighting_of_ref].pattern for sighting in found["sighting"])
    assert sighted[f"[file:hashes.'SHA-256' = '{bad}']"] == 2
    assert len(sighted) == 5
    assert all(len(Pattern(pattern).inspect().comparisons) == 1 for pattern in sighted)
