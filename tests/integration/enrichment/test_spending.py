"""ENRICH_WANT: a service is asked only if its answer can still change a column that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.simulator.pages._world import announcement, parse_address
from cowrie_enrich_dagster.storage.tables import EnrichedSession, Lookup, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.logs import routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
IPS = [f"11.{n}.{m}.7" for n in (0, 1, 2) for m in range(20)] + routable_ips(6)


@pytest.fixture
def many(environment: dict[str, str], simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """Seventy addresses of three networks or so; four services that tell of addresses."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "many", IPS))
    environment["ENRICH_SERVICES"] = "cymru,dshield,spur,abuseipdb"
    for name in ("SPUR", "ABUSEIPDB"):
        environment[f"{name}_API_URL"] = simulator.url(name.lower())
        environment[f"{name}_API_KEY"] = "key"
        environment[f"{name}_RATE_LIMIT"] = "1000"
    environment["CYMRU_API_URL"] = simulator.url("cymru")
    environment["CYMRU_RATE_LIMIT"] = "1000"
    environment["ENRICH_FEEDS"] = "none"
    return environment


def calls(simulator: Simulator) -> dict[str, int]:
    return {name: len(simulator.requests(name)) for name in ("cymru", "dshield", "spur", "abuseipdb")}


def rows(enricher: Enricher) -> dict[str, Any]:
    with enricher.database.read() as connection:
        return {row.source_ip: row for row in connection.execute(select(table_of(EnrichedSession)))}


def networks() -> set[str]:
    return {announcement(address).network for ip in IPS if (address := parse_address(ip))}


def test_where_only_the_network_is_wanted_one_bulk_query_tells_it(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Cymru is believed most and tells it: others are asked only about what it knows nothing of."""
    enricher = open_enricher(ENRICH_WANT="network")
    report = enricher.run(DAY)
    silent = [ip for ip, row in rows(enricher).items() if row.intel["cymru"]["status"] == "not_found"]
    assert len(silent) <= 3
    assert [record.keys for record in simulator.requests("dshield")] == [(ip,) for ip in silent]
    assert (calls(simulator)["cymru"], calls(simulator)["spur"], calls(simulator)["abuseipdb"]) == (1, 0, 0)
    assert all(row.source_as_number for row in rows(enricher).values())
    assert report.lookups["dshield"]["skipped_policy"] == len(IPS) - len(silent)
    assert report.lookups["abuseipdb"] == {"skipped_policy": len(IPS)}
    with enricher.database.read() as connection:
        purposes = set(connection.execute(select(table_of(Lookup).c.asked_for)).scalars())
    assert purposes == {"source_as_number,source_as_organization_name"}
    assert rows(enricher)[IPS[0]].intel["spur"]["status"] == "skipped_policy"


def test_a_network_that_was_told_serves_its_other_addresses(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """With DShield for the country: about as many calls as networks, and no column worse for it."""
    enricher = open_enricher(ENRICH_WANT="network,country")
    enricher.run(DAY)
    asked = calls(simulator)
    assert asked["cymru"] == 1
    assert len(networks()) <= asked["dshield"] <= 2 * len(networks())
    assert (asked["spur"], asked["abuseipdb"]) == (0, 0)
    for ip, row in rows(enricher).items():
        by = announcement(parse_address(ip))  # type: ignore[arg-type]
        assert (row.source_as_number, row.source_geo_country_iso_code) == (by.number, by.country)
        assert row.provenance["source_geo_country_iso_code"] == "dshield"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_by_default_everybody_is_asked_about_everything(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Without ENRICH_WANT nothing changes."""
    enricher = open_enricher()
    enricher.run(DAY)
    assert calls(simulator) == {"cymru": 1, "dshield": len(IPS), "spur": len(IPS), "abuseipdb": len(IPS)}
    with enricher.database.read() as connection:
        assert set(connection.execute(select(table_of(Lookup).c.asked_for)).scalars()) == {None}


def test_the_plan_shows_what_is_saved_and_what_calls_bring(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Calls saved by service with the reason, and each column's share of sessions, now and then."""
    enricher = open_enricher(ENRICH_WANT="country,reputation")
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    plan = enricher.plan(DAY)
    assert plan.services["cymru"].spared == {"unwanted": len(IPS)}
    assert plan.services["dshield"].wanted == len(IPS)  # whose reports nobody else is believed more for
    assert plan.services["abuseipdb"].wanted == len(IPS)
    first, *_, last = plan.columns
    assert first.calls == 0
    assert set(first.shares.values()) == {0.0}
    assert last.calls == sum(service.calls for service in plan.services.values())
    assert last.shares["source_geo_country_iso_code"] == 1.0
    assert calls(simulator) == {"cymru": 0, "dshield": 0, "spur": 0, "abuseipdb": 0}


def test_open_lookups_that_are_not_worth_a_call_any_more_end(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """What waited for everything is not asked once only the network is wanted."""
    before = open_enricher()
    before.ingest(DAY)
    before.summarise_addresses(DAY)
    before.plan_and_open(DAY)
    assert before.queue.backlog_of("spur").total == len(IPS)
    enricher = open_enricher(ENRICH_WANT="network")
    enricher.plan_and_open(DAY)
    assert enricher.queue.backlog_of("spur").total == 0
    enricher.refresh(*_WEEK, until=0)
    assert enricher.queue.backlog_of("spur").total == 0


def purposes(enricher: Enricher, service: str) -> set[str | None]:
    table = table_of(Lookup)
    with enricher.database.read() as connection:
        query = select(table.c.asked_for).where(table.c.service == service)
        return set(connection.execute(query).scalars())


def test_a_lookup_says_what_it_is_asked_for_this_time(
    many: dict[str, str], open_enricher: Open, simulator: Simulator
) -> None:
    """Opened for everything, for some columns, for others; open, answered, expired or refreshed."""
    enricher = open_enricher()
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    enricher.plan_and_open(DAY)
    assert purposes(enricher, "dshield") == {None}
    open_enricher(ENRICH_WANT="source_reports").plan_and_open(DAY)
    assert purposes(enricher, "dshield") == {"source_reports"}
    open_enricher(ENRICH_WANT="source_reports,source_as_number").run(DAY)
    assert purposes(enricher, "dshield") == {"source_reports"}  # Cymru was asked for the number
    later = open_enricher(ENRICH_WANT="source_reports,source_as_number")
    later.refresh(timedelta(days=8), timedelta(days=4000), service="dshield", limit=3, until=0)
    assert purposes(enricher, "dshield") == {"source_reports", "source_as_number,source_reports"}


_WEEK = (timedelta(days=1), timedelta(days=7))
