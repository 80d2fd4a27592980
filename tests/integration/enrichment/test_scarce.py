"""ENRICH_WANT where quotas are scarce: services that tell the same are asked about different addresses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Lookup, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.all_services import write_mmdb
from tests.attacks import Attack, write_attacks
from tests.logs import START

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
SERVICES = ("dshield", "spur", "abuseipdb")
# In networks of their own, so that none is told by another's answer.
IPS = [f"{first}.7.0.9" for first in range(60, 100)]
BEST = IPS[30:]
"""Those that left files."""
LEFT = 8
"""So many requests each service has left."""
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def scarce(environment: dict[str, str], simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """Forty addresses, ten of which left files, and three services with eight requests a day each."""
    attacks = [
        Attack(f"{n:012x}", ip, START + timedelta(minutes=n), files=("ab" * 32,) if ip in BEST else ())
        for n, ip in enumerate(IPS)
    ]
    environment["COWRIE_LOG_DIR"] = str(write_attacks(tmp_path / "scarce", attacks))
    environment["ENRICH_FEEDS"] = "none"
    environment["ENRICH_MAX_WAIT_SECONDS"] = "5"
    for name in SERVICES:
        environment[f"{name.upper()}_API_URL"] = simulator.url(name)
        environment[f"{name.upper()}_API_KEY"] = "key"
        environment[f"{name.upper()}_PER_DAY"] = str(LEFT)
        # At this rate one worker does it: of several the last slot may go to any.
        environment[f"{name.upper()}_RATE_LIMIT"], environment[f"{name.upper()}_BURST"] = "0.4", "50"
    del environment["DSHIELD_API_KEY"]
    environment["ENRICH_SERVICES"] = ",".join(SERVICES)
    return environment


def asked(simulator: Simulator) -> dict[str, list[str]]:
    """The addresses that each service was asked about, in order."""
    return {name: [key for record in simulator.requests(name) for key in record.keys] for name in SERVICES}


def rows(enricher: Enricher) -> list[Any]:
    with enricher.database.read() as connection:
        return list(connection.execute(select(table_of(EnrichedSession))))


def test_each_is_asked_about_what_the_others_are_not(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Three services tell the country: three times as many addresses have one, the best of them first."""
    enricher = open_enricher(ENRICH_WANT="country")
    enricher.run(DAY)
    of = asked(simulator)
    together = [ip for ips in of.values() for ip in ips]
    assert len(together) == len(set(together)) == 3 * LEFT
    assert set(of["dshield"]) < set(BEST)  # who is believed most is asked about the best
    assert set(BEST) < set(together)
    with_country = sum(row.source_geo_country_iso_code is not None for row in rows(enricher))
    assert with_country == 3 * LEFT
    assert {
        status for name in SERVICES for record in simulator.requests(name) for status in [record.status]
    } == {200}


def test_within_a_class_what_fills_most_columns_comes_first(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """AbuseIPDB alone tells the score: it is asked about the best in any case, and first about those of which
    DShield and Spur, who are believed more, do not tell the country."""
    enricher = open_enricher(ENRICH_WANT="country,source_abuse_score", ABUSEIPDB_PER_DAY="15")
    enricher.run(DAY)
    of = asked(simulator)
    rest = [ip for ip in BEST if ip not in {*of["dshield"], *of["spur"]}]
    assert len(rest) == 0  # ten, of which DShield and Spur tell
    assert set(of["abuseipdb"][:10]) == set(BEST)
    others = set(IPS) - set(BEST) - set(of["spur"])
    assert set(of["abuseipdb"][10:]) < others
    assert sum(row.source_geo_country_iso_code is not None for row in rows(enricher)) == 8 + 8 + 5


def test_what_anybody_told_is_not_asked_for_again(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Not even of a service that is believed more, once it may be asked again."""
    scarce |= {f"{name.upper()}_PER_DAY": "100" for name in SERVICES}
    open_enricher(ENRICH_WANT="country", ENRICH_SERVICES="abuseipdb").run(DAY)
    assert len(asked(simulator)["abuseipdb"]) == len(IPS)
    enricher = open_enricher(ENRICH_WANT="country,source_reports")
    enricher.run(DAY)
    assert {name: len(keys) for name, keys in asked(simulator).items()} == {
        "dshield": 0, "spur": 0, "abuseipdb": len(IPS)
    }  # fmt: skip
    assert enricher.plan(DAY).services["dshield"].spared == {"known": len(IPS)}


def test_while_all_may_be_asked_the_most_trusted_is(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """With quota enough nothing changes: DShield tells, and the next is asked what it knows nothing of."""
    enricher = open_enricher(ENRICH_WANT="country", DSHIELD_PER_DAY="100")
    enricher.run(DAY)
    told_by = {row.source_ip: row.provenance["source_geo_country_iso_code"] for row in rows(enricher)}
    silent = [ip for ip, service in told_by.items() if service != "dshield"]
    assert len(silent) <= 2
    of = asked(simulator)
    assert sorted(of["dshield"]) == sorted(IPS)
    assert (sorted(of["spur"]), of["abuseipdb"]) == (sorted(silent), [])


@on_sqlite
def test_what_a_file_does_not_tell_is_asked_for(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator, tmp_path: Path
) -> None:
    """MaxMind makes no request; what it knows nothing of is asked of others in the same run."""
    mmdb = write_mmdb(tmp_path / "here.mmdb", [f"{first}.0.0.0/8" for first in range(65, 100)])
    open_enricher(
        ENRICH_WANT="country", ENRICH_SERVICES=",".join((*SERVICES, "maxmind")), MAXMIND_DB_PATH=str(mmdb)
    ).run(DAY)
    assert asked(simulator) == {"dshield": IPS[:5], "spur": [], "abuseipdb": []}


def test_a_drain_goes_on_with_what_answers_make_worth_asking(
    scarce: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """What DShield knows nothing of is asked of Spur in the same drain."""
    enricher = open_enricher(ENRICH_WANT="country", DSHIELD_PER_DAY="100")
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    enricher.plan_and_open(DAY)
    enricher.enrich(DAY)
    assert set(enricher.queue.backlog()) == {"dshield"}
    report = enricher.drain()
    assert report.run.pending == 0
    assert all(row.source_geo_country_iso_code for row in rows(enricher))
    of = asked(simulator)
    assert (len(of["dshield"]), len(of["abuseipdb"])) == (len(IPS), 0)
    assert 0 < len(of["spur"]) <= 2
    assert {part.service: part.api_calls for part in report.fetched} == {
        "dshield": len(IPS), "spur": len(of["spur"])
    }  # fmt: skip


def test_a_block_is_worth_the_sessions_of_all_its_addresses(
    scarce: dict[str, str], open_enricher: Open, tmp_path: Path
) -> None:
    """Where the network is wanted, one address of a block with many is asked before a lone one."""
    crowd = [f"130.5.{n}.9" for n in range(12)]
    attacks = [
        Attack(f"{n:012x}", ip, START + timedelta(minutes=n)) for n, ip in enumerate([*IPS[:30], *crowd])
    ]
    logs = write_attacks(tmp_path / "crowd", attacks)
    enricher = open_enricher(ENRICH_WANT="country", COWRIE_LOG_DIR=str(logs), ENRICH_SERVICES="dshield")
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    plan = enricher.plan_and_open(DAY).services["dshield"]
    assert (plan.wanted, plan.spared) == (31, {"network_asked": 11})
    assert enricher.queue.claim("dshield", "worker", 1) == [crowd[0]]
    table = table_of(Lookup)
    with enricher.database.read() as connection:
        query = select(table.c.priority).where(table.c.key.in_([crowd[0], IPS[0]])).order_by(table.c.key)
        assert connection.execute(query).scalars().all() == [10_012, 10_001]
    assert [point.calls for point in plan.coverage] == [0, 3, 6, 8, 16, 31]
