"""Services of which an address more costs no call: what spares calls does not spare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.vocabulary import Days
from tests.all_services import write_mmdb
from tests.integration.enrichment.listing import lines, rows_by_ip, serve, tor
from tests.logs import routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
IPS = routable_ips(40)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FREE, COSTLY = ("cymru", "maxmind"), ("dshield", "abuseipdb")
TOLD_BY_FREE = (
    "source_as_number", "source_as_organization_name", "source_geo_country_iso_code", "source_scope",
)  # fmt: skip


@pytest.fixture
def of_both_kinds(environment: dict[str, str], simulator: Simulator, tmp_path: Path) -> None:
    """Two services of which an address more costs no call, and two that are asked one by one."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS))
    environment["ENRICH_SERVICES"] = ",".join((*FREE, *COSTLY))
    environment["ENRICH_FEEDS"] = "none"
    environment["MAXMIND_DB_PATH"] = str(write_mmdb(tmp_path / "here.mmdb", ["11.0.0.0/8"]))
    environment["CYMRU_API_URL"] = simulator.url("cymru")
    environment["ABUSEIPDB_API_URL"], environment["ABUSEIPDB_API_KEY"] = simulator.url("abuseipdb"), "key"
    for name in (*FREE, *COSTLY):
        environment[f"{name.upper()}_RATE_LIMIT"] = "1000"


@pytest.mark.parametrize("listed_by", ["list", "file"])
def test_what_costs_no_call_is_asked_about_scanners_too(
    of_both_kinds: None, open_enricher: Open, simulator: Simulator, configure: Callable[..., None],
    tmp_path: Path, listed_by: str,
) -> None:  # fmt: skip
    """Cymru and MaxMind are asked about what a scanners' list holds, but not about what is our own."""
    scanners, own = set(IPS[:5]), IPS[9]
    changes = {"ENRICH_OWN_NETWORKS": own}
    if listed_by == "list":
        configure(tor(simulator, name="scan", says="scanner"))
        serve(simulator, lines(*scanners))
    else:
        (tmp_path / "scanners.txt").write_text(lines(*scanners))
        changes["ENRICH_SCANNERS_FILE"] = str(tmp_path / "scanners.txt")
    enricher = open_enricher(**changes)
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    enricher.refresh_lists()
    plan = enricher.plan(DAY).services
    spared = 5 if listed_by == "list" else 0
    assert {name: one.spared["list"] for name, one in plan.items()} == {
        **dict.fromkeys(COSTLY, spared), **dict.fromkeys(FREE, 0)
    }  # fmt: skip
    assert [plan[name].calls_spared for name in (*COSTLY, *FREE)] == [spared, spared, 0, 0]
    enricher.run(DAY)
    asked = {name: {key for record in simulator.requests(name) for key in record.keys} for name in COSTLY}
    assert asked == dict.fromkeys(COSTLY, set(IPS) - scanners - {own})
    (whois,) = simulator.requests("cymru")
    assert set(whois.keys) == set(IPS) - {own}
    rows = rows_by_ip(enricher)
    for ip in scanners:
        assert rows[ip].source_geo_country_iso_code == "NL"
        assert {rows[ip].intel[name]["status"] for name in COSTLY} == {"skipped_policy"}
        assert rows[ip].intel["maxmind"]["status"] == "found"
        assert "detail" not in rows[ip].intel["cymru"]
    assert {rows[own].intel[name]["status"] for name in FREE} == {"skipped_policy"}


def test_no_column_is_worse_for_a_scanners_list_but_what_calls_alone_tell(
    of_both_kinds: None, open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """Beside a run without lists: the same rows, and more of what lists say."""
    plain = open_enricher()
    plain.run(DAY)
    before = rows_by_ip(plain)
    with plain.database.write() as connection:
        for table in ("enrichment_cache", "lookups", "observations", "enriched_sessions"):
            connection.execute(text(f"DELETE FROM {table}"))
    configure(tor(simulator, name="scan", says="scanner"))
    serve(simulator, lines(*IPS[:8]))
    enricher = open_enricher()
    enricher.run(DAY)
    rows = rows_by_ip(enricher)
    for ip in IPS:
        now, then = rows[ip]._mapping, before[ip]._mapping
        worse = {name for name in now if now[name] is None and then[name] is not None}
        assert worse <= (
            {"source_abuse_score", "source_reports", "source_is_tor"} if ip in IPS[:8] else set()
        )
        assert [now[name] for name in TOLD_BY_FREE] == [then[name] for name in TOLD_BY_FREE]
        assert now["source_is_scanner"] is (True if ip in IPS[:8] else None)


@on_sqlite
def test_what_was_open_at_free_services_stays_open_when_it_is_listed(
    of_both_kinds: None, open_enricher: Open, simulator: Simulator, configure: Callable[..., None]
) -> None:
    """And a day that is read again does not end it either."""
    open_enricher().ingest(DAY)
    enricher = open_enricher()
    enricher.summarise_addresses(DAY)
    enricher.plan_and_open(DAY)
    configure(tor(simulator, name="scan", says="scanner"))
    serve(simulator, lines(*IPS[:8]))
    later = open_enricher()
    later.refresh_lists()
    later.summarise_addresses(DAY)
    left = {name: later.queue.backlog_of(name).total for name in (*FREE, *COSTLY)}
    assert left == {**dict.fromkeys(FREE, 40), **dict.fromkeys(COSTLY, 32)}
    again = later.plan(DAY)
    assert {name: one.wanted for name, one in again.services.items()} == left
