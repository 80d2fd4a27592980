"""MaxMind: answers from database files written here, nothing sent anywhere."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from cowrie_enrich_dagster import services
from cowrie_enrich_dagster.services import ServiceConfig
from cowrie_enrich_dagster.services.maxmind import DatabaseUnreadable
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.vocabulary import LookupStatus
from tests.integration.services.conftest import GatedSession

MAXMIND = services.ALL["maxmind"]


def write(path: Path, kind: str, networks: dict[str, object], ip_version: int = 6) -> None:
    """A database of one type."""
    writer = MMDBWriter(ip_version=ip_version, database_type=kind, ipv4_compatible=ip_version == 6)
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a city and an AS database, and a file that is neither."""
    london = {"city": {"names": {"en": "London"}}, "country": {"iso_code": "GB"}}
    write(
        tmp_path / "GeoLite2-City.mmdb",
        "GeoLite2-City",
        {"81.2.69.0/24": london, "2001:470::/32": {"country": {"iso_code": "us"}}},
    )
    system = {"autonomous_system_number": 20712, "autonomous_system_organization": "Andrews & Arnold Ltd"}
    write(tmp_path / "GeoLite2-ASN.mmdb", "GeoLite2-ASN", {"81.2.0.0/16": system}, ip_version=4)
    (tmp_path / "README.txt").write_text("not a database")
    return tmp_path


def test_a_folder_of_databases_is_asked_at_once(folder: Path, http: GatedSession, sim: Simulator) -> None:
    """Each adds what it knows, with its build day and network; unknown is not_found; nothing is sent."""
    keys = ["81.2.69.142", "81.2.70.1", "2001:470:1:332::1", "8.8.8.8"]
    answers = MAXMIND.fetch(keys, http, ServiceConfig("", database=folder))
    assert [answers[key].status.value for key in keys] == ["found", "found", "found", "not_found"]
    facts = [MAXMIND.facts(answers[key].payload or {}) for key in keys]
    assert [fact.country_iso_code for fact in facts] == ["GB", None, "US", None]
    assert [fact.as_number for fact in facts] == [20712, 20712, None, None]
    assert facts[0].as_organization == "Andrews & Arnold Ltd"
    assert [fact.network for fact in facts] == ["81.2.0.0/16", "81.2.0.0/16", "2001:470::/32", None]
    payload = answers[keys[0]].payload or {}
    assert payload["ip"] == keys[0]
    assert payload["databases"]["GeoLite2-City"]["network"] == "81.2.69.0/24"
    assert payload["databases"]["GeoLite2-City"]["record"]["city"] == {"names": {"en": "London"}}
    assert len(payload["databases"]["GeoLite2-City"]["built"]) == 10
    assert (sim.requests(), http.slots) == ([], 0)


def test_one_file_will_do(folder: Path, http: GatedSession) -> None:
    """The setting may name a file."""
    config = ServiceConfig("", database=folder / "GeoLite2-City.mmdb")
    answer = MAXMIND.fetch(["81.2.69.142"], http, config)["81.2.69.142"]
    assert answer.status is LookupStatus.FOUND
    assert list((answer.payload or {})["databases"]) == ["GeoLite2-City"]


def test_without_a_database_it_says_so(tmp_path: Path, http: GatedSession) -> None:
    """None configured, a folder without any, a file that is missing: named, never not_found."""
    for database, expected in [
        (None, "no database is configured"),
        (tmp_path, "has no"),
        (tmp_path / "GeoLite2-City.mmdb", "GeoLite2-City.mmdb"),
    ]:
        with pytest.raises(DatabaseUnreadable, match=expected):
            MAXMIND.fetch(["8.8.8.8"], http, ServiceConfig("", database=database))


def test_a_damaged_database_is_an_error(folder: Path, http: GatedSession) -> None:
    """Cut off, empty or something else altogether: named, never not_found."""
    path = folder / "GeoLite2-City.mmdb"
    whole = path.read_bytes()
    for content in (b"", b"not a database", whole[: len(whole) // 2], os.urandom(5000)):
        path.write_bytes(content)
        with pytest.raises(DatabaseUnreadable, match=r"GeoLite2-City"):
            MAXMIND.fetch(["81.2.69.142"], http, ServiceConfig("", database=folder))


def test_damage_at_any_byte_is_an_error_or_harmless(tmp_path: Path, http: GatedSession) -> None:
    """Lengths, types and pointers that lead astray end no process and raise nothing else."""
    path = tmp_path / "own.mmdb"
    record = {"country": {"iso_code": 7}, "deep": [[[{"a": 1.5}]]], "big": 2**63, "flag": True}
    write(path, "own", {"8.0.0.0/8": record}, ip_version=4)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for damaged in (b"\xff" + whole[at + 1 :], whole[at : at + 2] + whole[at:], b"\x20" + whole[at:]):
            path.write_bytes(whole[:at] + damaged)
            with suppress(DatabaseUnreadable):
                answer = MAXMIND.fetch(["8.8.8.8"], http, ServiceConfig("", database=path))["8.8.8.8"]
                assert answer.status.is_answer


def test_what_json_cannot_hold_is_an_error(tmp_path: Path, http: GatedSession) -> None:
    """A database of one's own may have numbers of 128 bits; the cache could not store the answer."""
    write(tmp_path / "own.mmdb", "own", {"1.0.0.0/8": {"big": 2**100}})
    with pytest.raises(DatabaseUnreadable, match="own"):
        MAXMIND.fetch(["1.2.3.4"], http, ServiceConfig("", database=tmp_path))


@pytest.mark.parametrize("key", ["", "example.org", "1.2.3"])
def test_what_is_no_address_is_refused(key: str, folder: Path, http: GatedSession) -> None:
    """ValueError, as at every service."""
    with pytest.raises(ValueError, match="does not appear to be"):
        MAXMIND.fetch([key], http, ServiceConfig("", database=folder))
