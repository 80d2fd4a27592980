"""What a run knows from cowrieprocessor's cache makes the same rows, whole, as a run that asked everybody."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.reference import _SPUR_FIELDS
from cowrie_enrich_dagster.services import Limits
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage.engine import normalise_url
from cowrie_enrich_dagster.vocabulary import Days
from tests.all_services import KEYED, hashes, limits_of, write_attacks
from tests.integration.enrichment.test_moving import path_of
from tests.logs import routable_ips

DAY = Days.parse("2025-11-01")
SERVICES = ("dshield", "virustotal", "hibp", "cymru", "greynoise", "urlhaus", "spur")
Answer = tuple[str, str, Any, datetime]
Records = dict[tuple[str, str], tuple[Any, datetime]]
NOT_KEPT = {"source_reports", "file_label"}
"""What its records do not hold (docs/moving-in.md): how many URLs URLhaus knew, VirusTotal's threat label."""


def _cymru(key: str, answer: Any, at: datetime) -> Any:
    told = {"ip_address": key, "source": "cymru", "cached_at": at.isoformat(), "ttl_days": 90}
    if answer is None:
        return {**told, "asn": None, "asn_org": None, "country_code": None, "prefix": None}
    first = answer["origins"][0]
    names = {"country_code": "cc", "registry": "registry", "prefix": "bgp_prefix"}
    names |= {"allocation_date": "allocated", "asn_org": "as_name"}
    return {**told, "asn": int(first["as"]), **{theirs: first[ours] for theirs, ours in names.items()}}


def _greynoise(key: str, answer: Any, at: datetime) -> Any:
    said = answer or {"noise": False, "riot": False}
    kept = {name: said.get(name) for name in ("noise", "riot", "classification", "name", "last_seen")}
    return {"ip_address": key, **kept, "source": "greynoise", "cached_at": at.isoformat(), "ttl_days": 7}


def _spur(answer: Any) -> Any:
    empty = {"client.behaviors", "client.proxies", "client.types", "risks", "services", "tunnels"}
    values = []
    for path in _SPUR_FIELDS:
        value: Any = answer
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        values.append(([] if path in empty else "") if value is None else value)
    return {"spur_data": values}


def kept_by_them(answers: list[Answer]) -> Records:
    """The same answers as cowrieprocessor's clients write them; what it does not write is not there."""
    records: Records = {}
    for service, key, answer, at in answers:
        if service == "cymru":
            records[service, key] = _cymru(key, answer, at), at
        elif service == "greynoise":
            records[service, key] = _greynoise(key, answer, at), at
        elif service == "virustotal" and answer is None:
            records["virustotal_unknown", key] = {}, at
        elif answer is None:  # urlhaus and spur: it wrote that as it wrote its failures
            records[service, key] = {"tags": ""} if service == "urlhaus" else _spur({}), at
        elif service == "hibp":
            records[service, key] = answer["suffixes"], at
        elif service == "urlhaus":
            tags = sorted({tag for url in answer["urls"] for tag in url["tags"] or ()})
            records[service, key] = {"tags": ",".join(tags)}, at
        elif service == "spur":
            records[service, key] = _spur(answer), at
        else:
            records[service, key] = answer, at
    return records


def write_files(base: Path, records: Records) -> None:
    for (service, key), (record, at) in records.items():
        path = base / path_of(service, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        nanoseconds = round(at.timestamp() * 1e6) * 1000
        os.utime(path, ns=(nanoseconds, nanoseconds))


def write_table(url: str, records: Records) -> None:
    engine = create_engine(normalise_url(url))
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE enrichment_cache (id INTEGER PRIMARY KEY, service VARCHAR(64), "
                "cache_key VARCHAR(256), cache_value JSON, created_at DATETIME, expires_at DATETIME)"
            )
        )
        for number, ((service, key), (record, at)) in enumerate(records.items()):
            values = {"n": number, "service": service, "key": key, "value": json.dumps(record)}
            connection.execute(
                text("INSERT INTO enrichment_cache VALUES (:n, :service, :key, :value, :at, :at)"),
                {**values, "at": f"{at:%Y-%m-%d %H:%M:%S.%f}"},
            )
    engine.dispose()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with (
        Simulator(SimulatorConfig()) as running,
        limits_of(dict.fromkeys(SERVICES, Limits(rate=500, source="tests"))),
    ):
        yield running


@pytest.fixture(scope="module")
def opened(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> Iterator[Callable[..., Enricher]]:
    """Opens a pipeline with a database of its own, over the same logs."""
    folder = tmp_path_factory.mktemp("moving")
    logs = write_attacks(folder / "logs", routable_ips(24), hashes(12), ["123456", "letmein", "qx9", "root"])
    running: list[Enricher] = []

    def open_one(**changes: str) -> Enricher:
        url = f"sqlite:///{shutil.copy(sqlite_template, folder / f'{len(running)}.db')}"
        environment = {
            "COWRIE_ENRICH_HOME": str(folder),
            "COWRIE_LOG_DIR": str(logs),
            "DATABASE_URL": url,
            "DSHIELD_EMAIL": "tests@example.org",
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_FEEDS": "none",
            "ENRICH_SERVICES": ",".join(SERVICES),
            **{f"{name.upper()}_API_URL": simulator.url(name) for name in SERVICES},
            **{f"{name.upper()}_RATE_LIMIT": "500" for name in SERVICES},
            **{f"{name.upper()}_API_KEY": "key" for name in KEYED if name in SERVICES},
        }
        running.append(Enricher(load_settings({**environment, **changes}, cwd=folder)))
        return running[-1].__enter__()

    yield open_one
    for enricher in running:
        enricher.close()


def rows_of(enricher: Enricher) -> dict[str, dict[str, Any]]:
    """Every row whole, save the services' own words, which were translated."""
    with enricher.database.read() as connection:
        found = connection.execute(text("SELECT * FROM enriched_sessions")).mappings().all()
    rows = {}
    for row in found:
        intel = {
            name: {part: value for part, value in told.items() if part != "answer"}
            for name, told in json.loads(row["intel"]).items()
        }
        rows[row["session_id"]] = {**row, "intel": intel, "enriched_at": None}
    return rows


@pytest.fixture(scope="module")
def asked(opened: Callable[..., Enricher]) -> tuple[Enricher, Records]:
    """A run that asked about everything, and what cowrieprocessor would have kept of the answers."""
    enricher = opened()
    assert enricher.run(DAY).as_dict()["status"] == "complete"
    query = "SELECT service, cache_key, cache_value, fetched_at FROM enrichment_cache"
    with enricher.database.read() as connection:
        answers = [
            (
                row.service,
                row.cache_key,
                row.cache_value and json.loads(row.cache_value),
                datetime.fromisoformat(f"{row.fetched_at}+00:00"),
            )
            for row in connection.execute(text(query))
        ]
    by_service = {name: [answer for who, _, answer, _ in answers if who == name] for name in SERVICES}
    assert all(by_service.values())
    for name in ("virustotal", "greynoise", "urlhaus"):  # something, and nothing
        assert any(by_service[name]), name
        assert not all(by_service[name]), name
    return enricher, kept_by_them(answers)


@pytest.mark.parametrize("way", ["files", "table", "CACHE_DIR"])
def test_the_rows_are_those_of_a_run_that_asked(
    opened: Callable[..., Enricher],
    asked: tuple[Enricher, Records],
    simulator: Simulator,
    tmp_path: Path,
    way: str,
) -> None:
    """Asked is what was not kept, and nothing else; every row equal, column by column."""
    before, records = asked
    write_files(tmp_path / "cache", records)
    enricher = opened(**({"CACHE_DIR": str(tmp_path / "cache")} if way == "CACHE_DIR" else {}))
    if way != "CACHE_DIR":
        enricher.ingest(DAY)
        enricher.summarise_addresses(DAY)
    if way == "files":
        report = enricher.import_files(tmp_path / "cache")
    if way == "table":
        write_table(f"sqlite:///{tmp_path}/theirs.sqlite", records)
        report = enricher.import_table(f"sqlite:///{tmp_path}/theirs.sqlite")
    not_kept = {at for at, (record, _) in records.items() if record in ({"tags": ""}, _spur({}))}
    if way != "CACHE_DIR":
        assert (report.imported, len(report.bad)) == (len(records) - len(not_kept), len(not_kept))
    simulator.reset()
    assert enricher.run(DAY).as_dict()["status"] == "complete"
    calls = {(record.service, key) for record in simulator.requests() for key in record.keys}
    assert calls == not_kept

    rows, expected = rows_of(enricher), rows_of(before)
    assert rows.keys() == expected.keys()
    for session, row in expected.items():
        assert _comparable(rows[session], not_kept) == _comparable(row, not_kept)
        for name in NOT_KEPT:  # unknown there, never another
            assert rows[session][name] in (None, row[name])


def _comparable(row: Mapping[str, Any], asked_anew: set[tuple[str, str]]) -> dict[str, Any]:
    """Without what is not kept, and the moment of what had to be asked anew."""
    anew = {service for service, key in asked_anew if key == row["source_ip"]}
    intel = {
        name: {**told, "fetched_at": None} if name in anew else told for name, told in row["intel"].items()
    }
    provenance = {name: told for name, told in json.loads(row["provenance"]).items() if name not in NOT_KEPT}
    return {**row, "intel": intel, "provenance": provenance, **dict.fromkeys(NOT_KEPT)}
