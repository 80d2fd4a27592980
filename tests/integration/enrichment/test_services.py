"""All services at once, each with its own limits, keys and faults; what their answers become in the rows."""

from __future__ import annotations

import hashlib
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups import fetch
from cowrie_enrich_dagster.pacing import with_retries
from cowrie_enrich_dagster.services import ALL, Limits, ServiceConfig
from cowrie_enrich_dagster.settings import ConfigError
from cowrie_enrich_dagster.simulator import (
    Fault,
    Simulator,
    SimulatorClient,
    SimulatorConfig,
    SimulatorProcess,
)
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Json, Lookup, SessionIp, UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject
from tests import all_services
from tests.logs import routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
PASSWORDS = ["123456", "admin", "Kai2!zUqXw0-nobody", "nobody's either"]
FILES = all_services.hashes(4)[1:]  # one that VirusTotal does not know, a clean one, a miner
IP_SERVICES = [name for name in all_services.SIMULATED if ALL[name].subject is Subject.IP]
# What does not depend on the engine is shown on the one that needs no server.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@contextmanager
def unpaced() -> Iterator[requests.Session]:
    """A session as the oracle has it."""

    class Gated(requests.Session):
        @contextmanager
        def slot(self) -> Iterator[None]:
            yield

        @contextmanager
        def watched(self, connection: socket.socket) -> Iterator[None]:
            yield

    with Gated() as http:
        http.trust_env = False
        yield http


def truth(simulator: SimulatorClient, service: str, keys: list[str]) -> dict[str, LookupStatus]:
    """What the service says of the keys, asked directly; the simulator forgets that it was asked."""
    config = ServiceConfig(simulator.url(service), api_key="tests-key", contact="tests@example.org")
    with unpaced() as http:
        size = ALL[service].batch_size
        answers = [ALL[service].fetch(keys[n : n + size], http, config) for n in range(0, len(keys), size)]
    simulator.reset()
    return {key: answer.status for batch in answers for key, answer in batch.items()}


@pytest.fixture(scope="module")
def attackers() -> list[str]:
    """A few addresses of which each service knows some and does not know others."""
    candidates = routable_ips(60)
    with Simulator() as simulator:
        told = {name: truth(simulator, name, candidates) for name in IP_SERVICES}
    chosen = {
        next(ip for ip in candidates if told[name][ip] is status)
        for name in IP_SERVICES
        for status in set(told[name].values())
    }
    return sorted(chosen)


@pytest.fixture
def world(
    environment: dict[str, str], simulator: Simulator, tmp_path: Path, attackers: list[str]
) -> Iterator[None]:
    """All services take part, as fast as they can; the logs hold something for each."""
    logs = all_services.write_attacks(tmp_path / "attacks", attackers, FILES, PASSWORDS)
    mmdb = all_services.write_mmdb(tmp_path / "country.mmdb", attackers[::2])
    environment.update(all_services.environment(simulator, mmdb))
    del environment["DSHIELD_RATE_LIMIT"]
    environment["COWRIE_LOG_DIR"] = str(logs)
    with all_services.limits_of(dict.fromkeys(all_services.SIMULATED, Limits(rate=500, source="this test"))):
        yield


def enriched(enricher: Enricher) -> list[dict[str, Any]]:
    with enricher.database.read() as connection:
        return [dict(row) for row in connection.execute(select(EnrichedSession.__table__)).mappings()]


def end_cooldowns(enricher: Enricher) -> None:
    """As if the minute for which a service that fails is left alone were over."""
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE service_limits SET cooldown_until = 0"))


@on_sqlite
def test_all_services_at_once_stay_within_their_limits(
    environment: dict[str, str], world: None, attackers: list[str], open_enricher: Open, tmp_path: Path
) -> None:
    """Real limits times eight, on both sides: none is broken, each key is asked once, each answer is true."""
    unheard_of = {
        "ipAddress": attackers[0],
        "abuseConfidenceScore": 0,
        "countryCode": None,
        "totalReports": 0,
    }
    body = json.dumps({"data": unheard_of})  # the simulator's own page knows a country for every address
    fault = Fault(kind="reply", status=200, key=attackers[0], body=body)
    with SimulatorProcess(SimulatorConfig(faults={"abuseipdb": (fault,)})) as simulator:
        environment.update(all_services.environment(simulator, tmp_path / "country.mmdb"))
        with all_services.scaled(8, simulator):
            enricher = open_enricher()
            report = enricher.run(DAY).as_dict()
        assert (report["status"], report["pending"], report["stopped"]) == ("complete", 0, {})
        prefixes = {hashlib.sha1(word.encode()).hexdigest()[:5].upper() for word in PASSWORDS}
        of = {Subject.IP: attackers, Subject.FILE_SHA256: FILES, Subject.PASSWORD_SHA1_PREFIX: prefixes}
        keys = {name: of[ALL[name].subject] for name in all_services.SIMULATED}
        for name in all_services.SIMULATED:
            assert simulator.over_limit(name) == 0, name
            asked = {ip for ip in keys[name] if name != "greynoise" or ":" not in ip}
            assert simulator.calls_per_key(name) == dict.fromkeys(asked, 1), name
        for name in all_services.SIMULATED:
            expected = Counter(str(status) for status in truth(simulator, name, sorted(keys[name])).values())
            assert report["lookups"][name] == expected, name
        for name in IP_SERVICES:
            assert set(report["lookups"][name]) == {"found", "not_found"}, name
    known = len(attackers[::2])
    assert report["lookups"]["maxmind"] == {"found": known, "not_found": len(attackers) - known}


def every_status(report: dict[str, Any]) -> dict[str, set[str]]:
    return {name: set(counts) for name, counts in report["lookups"].items()}


def only_refused(statuses: set[str]) -> bool:
    """Asked in vain, or put off unasked once that was known."""
    return "auth_failed" in statuses and statuses <= {"auth_failed", "deferred"}


@on_sqlite
def test_a_refused_key_is_told_for_each_service(
    world: None, simulator: Simulator, open_enricher: Open
) -> None:
    """`auth_failed` where a key is wanted or the User-Agent refused; those without either still answer."""
    for keyless in ("dshield", "hibp"):
        simulator.set_fault(keyless, Fault(kind="reply", status=403))
    refused = {f"{name.upper()}_API_KEY": REFUSED_KEY for name in all_services.KEYED}
    report = open_enricher(**refused).run(DAY).as_dict()
    statuses = every_status(report)
    assert statuses.pop("cymru") == statuses.pop("maxmind") == {"found", "not_found"}
    assert all(map(only_refused, statuses.values()))
    assert report["status"] == "partial"


@on_sqlite
def test_a_limit_is_told_for_each_service(
    world: None, simulator: Simulator, open_enricher: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 for an hour: limited or put off, nothing found, nothing taken for clean; later all is answered."""
    monkeypatch.setattr(fetch, "with_retries", partial(with_retries, backoff_base=0.01))
    for name in all_services.SIMULATED:
        simulator.set_fault(name, Fault(kind="reply", status=429, retry_after_s=3600))
    report = open_enricher().run(DAY).as_dict()
    statuses = every_status(report)
    assert statuses.pop("cymru") == {"error"}  # whois has no status to say it by: the connection is closed
    assert statuses.pop("maxmind") == {"found", "not_found"}
    for name, told in statuses.items():
        assert told <= {"rate_limited", "deferred"}, name
    assert report["pending"] == sum(
        sum(counts.values()) for name, counts in report["lookups"].items() if name != "maxmind"
    )


@on_sqlite
def test_garbage_is_told_for_each_service(world: None, simulator: Simulator, open_enricher: Open) -> None:
    """A proxy's page with status 200 is no answer of anybody, and is asked for again once it is mended."""
    for name in all_services.SIMULATED:
        simulator.set_fault(name, Fault(kind="html"))
    statuses = every_status(open_enricher().run(DAY).as_dict())
    assert statuses.pop("maxmind") == {"found", "not_found"}
    for name, told in statuses.items():  # after a few in a row the rest is left for later
        assert "invalid_response" in told, name
        assert told <= {"invalid_response", "deferred"}, name
    simulator.reset()
    end_cooldowns(open_enricher())
    mended = open_enricher().run(DAY).as_dict()
    assert mended["status"] == "complete"
    assert set().union(*every_status(mended).values()) == {"found", "not_found"}


@on_sqlite
def test_a_bad_virustotal_key_stops_virustotal_alone(
    world: None, simulator: Simulator, open_enricher: Open
) -> None:
    """One call at its real rate, and not another in the next run; every other service answers everything."""
    for _ in range(2):
        with all_services.limits_of({"virustotal": all_services.REAL_LIMITS["virustotal"]}):
            report = open_enricher(VIRUSTOTAL_API_KEY=REFUSED_KEY).run(DAY).as_dict()
        assert len(simulator.requests("virustotal")) == 1
        statuses = every_status(report)
        assert only_refused(statuses.pop("virustotal"))
        assert set().union(*statuses.values()) == {"found", "not_found"}
        assert set(report["stopped"]) == {"virustotal"}


@on_sqlite
def test_no_password_and_no_whole_hash_leaves(world: None, simulator: Simulator, open_enricher: Open) -> None:
    """HIBP sees five hexadecimal digits of each; the rows say which passwords are breached."""
    enricher = open_enricher(ENRICH_SERVICES="hibp")
    enricher.run(DAY)
    digests = [hashlib.sha1(word.encode()).hexdigest().upper() for word in PASSWORDS]
    log = simulator.requests()
    assert {record.path for record in log} == {f"/range/{digest[:5]}" for digest in digests}
    sent = json.dumps([[record.path, record.user_agent] for record in log]).upper()
    assert not [word for word in (*PASSWORDS, *digests, *(d[5:] for d in digests)) if word.upper() in sent]
    rows = enriched(enricher)
    assert sum(row["passwords_breached"] or 0 for row in rows) == 2
    assert sum(row["passwords_novel"] or 0 for row in rows) == 2
    with enricher.database.read() as connection:
        kept = connection.execute(text("SELECT cache_key FROM enrichment_cache")).scalars().all()
        assert {len(key) for key in kept} == {5}


def test_every_column_tells_who_filled_it(world: None, open_enricher: Open) -> None:
    """Each value has its service, whose answer says it; of two that differ the first in order is believed."""
    enricher = open_enricher()
    enricher.run(DAY)
    rows = enriched(enricher)
    with enricher.database.read() as connection:
        query = text("SELECT * FROM answers").columns(payload=Json, fetched_at=UtcDateTime)
        answers = {(row["service"], row["key"]): row for row in connection.execute(query).mappings()}
    facts = [
        column.name
        for column in EnrichedSession.__table__.columns
        if column.name.startswith(("source_as", "source_geo", "source_is", "file_m", "file_l", "passwords_"))
        or column.name in ("source_abuse_score", "source_classification", "source_reports")
    ]
    assert len(facts) == 14
    filled = Counter(name for row in rows for name in facts if row[name] is not None)
    assert set(filled) == set(facts)
    for row in rows:
        assert set(row["provenance"]) == {name for name in facts if row[name] is not None}
        for name, origin in row["provenance"].items():
            if name.startswith("source_"):
                answer = answers[origin, row["source_ip"]]
                assert row["intel"][origin]["fetched_at"] == f"{answer['fetched_at']:%Y-%m-%dT%H:%M:%SZ}"
                told = ALL[origin].facts(answer["payload"])
                assert row[name] in vars(told).values()
    told_by = {name: {row["provenance"].get(name) for row in rows} - {None} for name in facts}
    assert told_by["file_malicious"] == {"virustotal"}
    assert told_by["passwords_breached"] == told_by["passwords_novel"] == {"hibp"}
    assert told_by["source_as_number"] == {"cymru", "dshield"}  # DShield where Cymru knows none
    for row in rows:
        expected = "maxmind" if row["intel"]["maxmind"]["status"] == "found" else None
        assert expected in (None, row["provenance"]["source_geo_country_iso_code"])
        by = row["provenance"].get("source_as_number")
        assert by != "dshield" or row["intel"]["cymru"]["status"] == "not_found"


def test_known_scanners_are_marked_and_never_asked(
    open_enricher: Open, simulator: Simulator, few_logs: list[str], tmp_path: Path
) -> None:
    """Their sessions say so on the operator's own authority; what was queued before is not asked either."""
    simulator.set_fault("dshield", Fault(kind="html"))
    enricher = open_enricher()
    enricher.run(DAY)  # opens a lookup for every address
    with enricher.database.read() as connection:
        busiest = connection.execute(
            text("SELECT src_ip FROM session_ips WHERE scope = 'global' AND src_ip NOT LIKE '%:%' "
                 "GROUP BY src_ip ORDER BY sum(sessions) DESC LIMIT 2")
        ).scalars().all()  # fmt: skip
    listed = tmp_path / "scanners.txt"
    listed.write_text(f"# seen in their own documentation\n{busiest[0]}  # one\n\n{busiest[1]}/32\n")
    simulator.reset()
    end_cooldowns(enricher)
    later = open_enricher(ENRICH_SCANNERS_FILE=str(listed))
    report = later.run(DAY).as_dict()
    later.drain()
    assert not set(busiest) & set(simulator.calls_per_key("dshield"))
    assert report["lookups"]["dshield"]["skipped_policy"] == 2
    assert report["coverage"]["dshield"] == 1.0
    rows = [row for row in enriched(later) if row["source_ip"] in busiest]
    assert len(rows) == 6
    for row in rows:
        assert (row["source_scope"], row["source_is_scanner"]) == ("global", True)
        assert row["provenance"] == {"source_is_scanner": "list"}
        detail = {"status": "skipped_policy", "detail": "listed as a known scanner"}
        assert row["intel"] == {"dshield": detail}
    with later.database.read() as connection:
        closed = select(Lookup.status, Lookup.next_attempt_at).where(Lookup.key.in_(busiest))
        assert {tuple(row) for row in connection.execute(closed)} == {("skipped_policy", None)}
        marked = connection.execute(select(SessionIp.src_ip).where(SessionIp.known_scanner)).scalars()
        assert set(marked) == set(busiest)


@on_sqlite
def test_what_was_learned_of_a_scanner_before_it_was_listed_stays(
    open_enricher: Open, attackers: list[str], world: None, tmp_path: Path
) -> None:
    """Answers that were paid for are shown; the list only has the first word on what it says."""
    open_enricher().run(DAY)
    listed = tmp_path / "scanners.txt"
    listed.write_text("11.0.0.0/8")
    later = open_enricher(ENRICH_SCANNERS_FILE=str(listed))
    assert sum(later.run(DAY).as_dict()["api_calls"].values()) == 0
    for row in enriched(later):
        assert row["source_is_scanner"] is True
        assert row["provenance"]["source_is_scanner"] == "list"
        assert row["source_as_number"] is None or "source_as_number" in row["provenance"]
        assert row["intel"]["dshield"]["status"] in ("found", "not_found")


@on_sqlite
def test_own_networks_may_stand_in_a_file(open_enricher: Open, simulator: Simulator, tmp_path: Path) -> None:
    """Beside those in the environment; neither is sent out."""
    (tmp_path / "own.txt").write_text("2001:470::/32 # the sensors' own tunnel\n")
    ours, *others = routable_ips(4)
    logs = write_logs(tmp_path / "logs", [ours, *others, "2001:470:1:332::1"])
    enricher = open_enricher(
        COWRIE_LOG_DIR=str(logs), ENRICH_OWN_NETWORKS_FILE="own.txt", ENRICH_OWN_NETWORKS=ours
    )
    assert enricher.run(DAY).as_dict()["lookups"]["dshield"]["skipped_policy"] == 2
    assert simulator.calls_per_key("dshield") == dict.fromkeys(others, 1)


@on_sqlite
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"8.8.8.8\n10.0.0.300 # typo\n",
            r"list\.txt line 2: '10\.0\.0\.300' is neither an address nor a network",
        ),
        (b"\xff\xfe8.8.8.8", "it is not UTF-8"),
        (None, "cannot be read"),
    ],
)
@pytest.mark.parametrize("setting", ["ENRICH_SCANNERS_FILE", "ENRICH_OWN_NETWORKS_FILE"])
def test_a_bad_list_is_named_with_its_line(
    setting: str, content: bytes | None, problem: str, open_enricher: Open, tmp_path: Path
) -> None:
    """The message says which setting, which file, which line and what is accepted there."""
    listed = tmp_path / "list.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(
        ConfigError, match=rf'{setting} = "list\.txt" is not accepted.*{problem}.*accepted: a'
    ):
        open_enricher(**{setting: "list.txt"})
