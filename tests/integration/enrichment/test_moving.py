"""Moving in from cowrieprocessor: what its files and its table say is what it says here, as old as it is."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.moving import NothingToImport, reference_files, reference_table
from cowrie_enrich_dagster.enrichment.reference import read_record
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database, DatabaseUnusable, normalise_url
from cowrie_enrich_dagster.storage.tables import SessionIp, table_of
from tests.logs import routable_ips

Open = Callable[..., Enricher]
IP, OTHER = routable_ips(2)
NOW = datetime.now(timezone.utc).replace(microsecond=0)
FILE = hashlib.sha256(b"file").hexdigest()
UNKNOWN = hashlib.sha256(b"unknown").hexdigest()
DSHIELD = {"ip": {"number": IP, "count": 7, "as": 64500, "asname": "EXAMPLE", "ascountry": "NL"}}
VIRUSTOTAL = {"data": {"id": FILE, "type": "file", "attributes": {"last_analysis_stats": {"malicious": 3}}}}
SUFFIXES = {f"{n:035X}": n for n in range(1, 634)}
CYMRU = {
    "ip_address": IP,
    "asn": 64500,
    "asn_org": "EXAMPLE-AS, NL",
    "country_code": "NL",
    "registry": "ripencc",
    "prefix": "192.0.2.0/24",
    "allocation_date": "2001-02-03",
    "source": "cymru",
    "cached_at": (NOW - timedelta(days=2)).isoformat(),
    "ttl_days": 90,
}
GREYNOISE = {
    "ip_address": IP,
    "noise": True,
    "riot": False,
    "classification": "benign",
    "name": "Shodan.io",
    "last_seen": "2025-10-30T00:00:00",
    "source": "greynoise",
    "cached_at": NOW.isoformat(),
    "ttl_days": 7,
}
SPUR = ["EXAMPLE-AS", [], "NL", "", "", "", "", ["LUMINATI"], "", [], "DATACENTER", "", "NL", "", "Example"]
SPUR += [["TUNNEL"], [], [{"type": "VPN"}]]  # type: ignore[list-item]
BLANK_SPUR = ["", [], "", "", "", "", "", [], "", [], "", "", "", "", "", [], [], []]

RECORDS: dict[tuple[str, str], Any] = {
    ("dshield", IP): DSHIELD,
    ("virustotal", FILE): VIRUSTOTAL,
    ("hibp", "5BAA6"): SUFFIXES,
    ("cymru", IP): CYMRU,
    ("greynoise", IP): GREYNOISE,
    ("urlhaus", IP): {"tags": "elf,mirai"},
    ("spur", IP): {"spur_data": SPUR},
    ("virustotal_unknown", UNKNOWN): {},
}


def path_of(service: str, key: str) -> Path:
    """Where the reference's EnrichmentCacheManager puts a record."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    if service == "dshield":
        return Path(service, *key.split(".")[:3], f"{key.split('.')[3]}.json")
    if service.startswith("virustotal"):
        return Path(service, key[:2], key[2:4], key[4:6], key[6:8], f"{key}.json")
    if service == "hibp":
        return Path(service, key[:2], key[2:4], key[4:], f"{key}.json")
    return Path(service, digest[:2], f"{digest}.json")


def write(path: Path, record: Any, moment: datetime = NOW) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    os.utime(path, (moment.timestamp(), moment.timestamp()))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A cache of the reference's, with everything in it that it may hold."""
    for (service, key), record in RECORDS.items():
        write(tmp_path / "cache" / path_of(service, key), record)
    return tmp_path / "cache"


def facts_of(enricher: Enricher, service: str, key: str) -> dict[str, Any]:
    payload = enricher.cache.database.get(service, key).payload  # type: ignore[union-attr]
    facts = ALL[service].facts(payload or {})
    return {name: value for name, value in vars(facts).items() if value is not None}


def check_all(enricher: Enricher) -> None:
    """Every record of `RECORDS` means what the service would have said."""
    assert facts_of(enricher, "dshield", IP) == {
        "as_number": 64500,
        "as_organization": "EXAMPLE",
        "country_iso_code": "NL",
        "reports": 7,
    }
    assert facts_of(enricher, "virustotal", FILE) == {"malicious": 3}
    pwned = enricher.cache.database.get("hibp", "5BAA6")
    assert pwned is not None
    assert pwned.payload == {"prefix": "5BAA6", "suffixes": SUFFIXES}
    assert facts_of(enricher, "cymru", IP) == {
        "as_number": 64500,
        "as_organization": "EXAMPLE-AS",
        "network": "192.0.2.0/24",
    }
    greynoise = facts_of(enricher, "greynoise", IP)
    assert (greynoise["is_scanner"], greynoise["classification"]) == (True, "benign")
    assert facts_of(enricher, "spur", IP) == {
        "as_organization": "EXAMPLE-AS",
        "country_iso_code": "NL",
        "is_proxy": True,
        "is_vpn": True,
        "is_tor": False,
    }
    urlhaus = enricher.cache.database.get("urlhaus", IP)
    assert urlhaus is not None
    assert urlhaus.payload == {"query_status": "ok", "host": IP, "urls": [{"tags": ["elf", "mirai"]}]}
    unknown = enricher.cache.database.get("virustotal", UNKNOWN)
    assert unknown is not None
    assert (unknown.status, unknown.expires_at) == ("not_found", NOW + timedelta(hours=12))
    cymru = enricher.cache.database.get("cymru", IP)
    assert cymru is not None
    assert cymru.fetched_at == NOW - timedelta(days=2)  # what it says itself, not when it was copied


def know(enricher: Enricher, address: str) -> None:
    """An address in `session_ips`, as after reading logs."""
    table = table_of(SessionIp)
    row: dict[str, Any] = {column.name: 0 for column in table.columns if not column.nullable}
    row |= {"day": NOW.date(), "src_ip": address, "scope": "global", "first_seen": NOW, "last_seen": NOW}
    with enricher.database.write() as connection:
        connection.execute(table.insert(), {**row, "known_scanner": False})


def test_its_files_come_in(base: Path, open_enricher: Open) -> None:
    """Each of its layouts; the address of a hashed path is found among those that we know."""
    enricher = open_enricher()
    know(enricher, IP)
    report = enricher.import_files(base)
    assert (report.bad, report.key_lost) == ([], [])
    assert report.imported == len(RECORDS)
    check_all(enricher)


def test_its_files_are_read_where_they_lie(base: Path, open_enricher: Open) -> None:
    """CACHE_DIR: the same answers, by key."""
    enricher = open_enricher(CACHE_DIR=str(base))
    for service, key in RECORDS:
        name = service.partition("_")[0]
        enricher.cache.database.set_many(
            reference_files(base, enricher.database).get_many(name, [key]).values()
        )
    check_all(enricher)


def test_its_table_comes_in(open_enricher: Open, tmp_path: Path, database_url: str) -> None:
    """From SQLite, and from PostgreSQL where that is what we have: only read, nothing changed."""
    theirs = f"sqlite:///{tmp_path}/theirs.sqlite"
    if database_url.startswith("postgresql"):
        from tests.servers import PostgresServer

        server = PostgresServer()
        theirs = server.new_database()
    kind = "JSON" if theirs.startswith("sqlite") else "JSONB"
    moment = "DATETIME" if theirs.startswith("sqlite") else "TIMESTAMPTZ"
    engine = create_engine(normalise_url(theirs))
    rows = {**RECORDS, ("ip_classification", IP): {"type": "cloud"}, ("dshield", OTHER): DSHIELD}
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE raw_events (id INTEGER PRIMARY KEY)"))
        connection.execute(
            text(
                "CREATE TABLE enrichment_cache (id INTEGER PRIMARY KEY, service VARCHAR(64), cache_key"
                f" VARCHAR(256), cache_value {kind}, created_at {moment}, expires_at {moment})"
            )
        )
        for number, ((service, key), record) in enumerate(rows.items()):
            stamp = f"{NOW:%Y-%m-%d %H:%M:%S}" if theirs.startswith("sqlite") else NOW
            connection.execute(
                text("INSERT INTO enrichment_cache VALUES (:n, :service, :key, :value, :at, :at)"),
                {"n": number, "service": service, "key": key, "value": json.dumps(record), "at": stamp},
            )
    engine.dispose()
    enricher = open_enricher()
    report = enricher.import_table(theirs)
    assert [path for path, _ in report.bad] == [f"ip_classification/{IP}", f"dshield/{OTHER}"]
    assert "not about this address" in report.bad[1][1]
    assert report.imported == len(RECORDS)
    check_all(enricher)
    if database_url.startswith("postgresql"):
        server.close()


@pytest.mark.parametrize(
    ("service", "key", "record", "why"),
    [
        ("dshield", IP, {"ip": {"asname": "", "ascountry": ""}}, "blank"),
        ("dshield", OTHER, DSHIELD, "not about this address"),
        ("dshield", IP, {"ip": {"number": IP, "error": "limit"}}, "error"),
        ("urlhaus", IP, {"tags": ""}, "blank"),
        ("urlhaus", OTHER, {"query_status": "ok", "host": IP, "urls": []}, "not about this address"),
        ("spur", IP, {"spur_data": BLANK_SPUR}, "blank"),
        ("spur", IP, {"spur_data": ["x"]}, "1 values"),
        ("cymru", OTHER, CYMRU, "another address"),
        ("greynoise", "quota_2025-11-01", {"count": 3, "date": "2025-11-01"}, "IPv4"),
        ("hibp", "5BAA6", {"prefix": "5BAA7", "suffixes": SUFFIXES}, "no range"),
        ("hibp", "5BAA6", {"error": "x"}, "suffixes"),
        ("virustotal", UNKNOWN, VIRUSTOTAL, "another file"),
        ("virustotal", FILE, {"error": {"code": "QuotaExceededError"}}, "error"),
    ],
)
def test_what_is_no_answer_about_its_key_stays_out(service: str, key: str, record: Any, why: str) -> None:
    """A failure written as an answer, an answer about another key."""
    with pytest.raises(Exception, match=why) as caught:
        read_record(service, key, record)
    assert type(caught.value).__name__ == "BadRecord"


@pytest.mark.parametrize(
    ("name", "service", "key", "record"),
    [
        (f"dshield_{IP}.json", "dshield", IP, {"timestamp": NOW.timestamp() - 60, "data": DSHIELD}),
        (f"vt_{FILE}.json", "virustotal", FILE, VIRUSTOTAL),
        (FILE, "virustotal", FILE, VIRUSTOTAL),
        (f"uh_{IP}", "urlhaus", IP, {"query_status": "ok", "host": IP, "url_count": "2", "urls": []}),
        (f"spur_{IP}.json", "spur", IP, {"ip": IP, "infrastructure": "MOBILE"}),
    ],
)
def test_the_files_of_older_versions_come_in(
    name: str, service: str, key: str, record: Any, tmp_path: Path, open_enricher: Open
) -> None:
    """They lie in the base folder itself; read where they lie they say the same."""
    write(tmp_path / "old" / name, record)
    enricher = open_enricher()
    assert enricher.import_files(tmp_path / "old").imported == 1
    entry = enricher.cache.database.get(service, key)
    assert entry is not None
    assert entry.fetched_at == NOW - timedelta(seconds=60 if service == "dshield" else 0)
    assert reference_files(tmp_path / "old", enricher.database).get_many(service, [key]) == {key: entry}


@pytest.mark.parametrize("table", ["raw_events", "session_summaries"])
def test_its_database_is_left_alone(table: str, tmp_path: Path) -> None:
    """Recognised before anything is done to it: not a byte of the file changes."""
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER)")
    before = path.read_bytes()
    for use in (migrate.current, migrate.upgrade, lambda d: migrate.require_current(d, makes=True)):
        with pytest.raises(DatabaseUnusable, match="cowrieprocessor"):
            use(Database(f"sqlite:///{path}"))
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs.sqlite"]


def test_its_database_is_left_alone_on_postgresql_too(postgres_server: Any) -> None:
    """And a `search_path` in the URL leads to a schema of ours beside its tables."""
    url = postgres_server.new_database()
    engine = create_engine(normalise_url(url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE raw_events (id INTEGER)"))
        connection.execute(text("CREATE SCHEMA ours"))
    with pytest.raises(DatabaseUnusable, match="cowrieprocessor"):
        migrate.upgrade(Database(url))
    for number, query in enumerate(("options=-csearch_path%3Dours", "search_path=ours")):
        database = Database(f"{url}{'&' if '?' in url else '?'}{query}")
        migrate.upgrade(database)
        assert migrate.current(database) == migrate.head(database)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT to_regclass('ours.lookups') IS NOT NULL")).scalar_one()
            assert found, number
            assert connection.execute(text("SELECT to_regclass('public.lookups')")).scalar_one() is None
        database.close()
    engine.dispose()


def test_there_must_be_something_to_import(tmp_path: Path, open_enricher: Open) -> None:
    """No file, no table, a database of ours: each is said."""
    with pytest.raises(NothingToImport, match="not a file"):
        list(reference_table(f"sqlite:///{tmp_path}/none.db"))
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").write_bytes(b"")
    with pytest.raises(NothingToImport, match="no table"):
        list(reference_table(f"sqlite:///{tmp_path}/empty.db"))
    enricher = open_enricher()
    with pytest.raises(NothingToImport, match="of this project"):
        list(reference_table(enricher.settings.database_url.get_secret_value()))
