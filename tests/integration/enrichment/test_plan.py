"""What a plan says before anything is spent: calls, quota, time, and what the calls are worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.hit_rates import HitRates
from cowrie_enrich_dagster.enrichment.plan import ServicePlan
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.services import ALL
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.vocabulary import Days
from tests import all_services
from tests.logs import START, routable_ips

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
EARLY, BUSY, INTRUDER = routable_ips(3)
# What does not depend on the engine is shown on the one that needs no server.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def visitors(environment: dict[str, str], tmp_path: Path) -> None:
    """Ten sessions: one from whom came first, seven from a busy one, two from one that got in."""
    folder = tmp_path / "visitors"
    folder.mkdir()
    environment["COWRIE_LOG_DIR"] = str(folder)
    with (folder / "cowrie.json").open("w") as log:
        for number, ip in enumerate([EARLY, *[BUSY] * 7, *[INTRUDER] * 2]):
            common = {"session": f"{number:012x}", "src_ip": ip, "protocol": "ssh", "sensor": "sensor-a"}
            kinds = ["session.connect", *(["login.success"] if ip == INTRUDER else []), "session.closed"]
            for step, kind in enumerate(kinds):
                stamp = f"{START + timedelta(seconds=number, milliseconds=step):%Y-%m-%dT%H:%M:%S.%fZ}"
                log.write(json.dumps({**common, "eventid": f"cowrie.{kind}", "timestamp": stamp}) + "\n")


def planned(enricher: Enricher) -> dict[str, ServicePlan]:
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    return enricher.plan(DAY).services


def test_the_plan_says_what_calls_are_worth(
    visitors: None, open_enricher: Open, simulator: Simulator
) -> None:
    """Who got in is asked about first, then who is busy; beside that, the order in which they came."""
    enricher = open_enricher()
    points = {p.calls: (p.covered, p.first_come) for p in planned(enricher)["dshield"].coverage}
    assert points == {0: (0.0, 0.0), 1: (0.2, 0.1), 2: (0.9, 0.8), 3: (1.0, 1.0)}
    enricher.fetch("dshield", [Wanted(BUSY)])
    points = {p.calls: (p.covered, p.first_come) for p in planned(enricher)["dshield"].coverage}
    assert points == {0: (0.7, 0.7), 1: (0.9, 0.8), 2: (1.0, 1.0)}


@on_sqlite
def test_a_scarce_quota_goes_to_the_most_valuable(
    visitors: None, open_enricher: Open, simulator: Simulator
) -> None:
    """With two requests a day the plan says what two are worth, and the run spends them just so."""
    # At this pace one worker does it: of several, the last slot may go to either.
    enricher = open_enricher(DSHIELD_PER_DAY="2", DSHIELD_RATE_LIMIT="0.5", ENRICH_MAX_WAIT_SECONDS="20")
    plan = planned(enricher)["dshield"]
    assert (plan.calls, plan.quota_left) == (3, 2)
    promised = next(point.covered for point in plan.coverage if point.calls == 2)
    report = enricher.run(DAY).as_dict()
    assert promised == report["coverage"]["dshield"] == 0.9
    assert set(simulator.calls_per_key("dshield")) == {INTRUDER, BUSY}
    assert (report["status"], report["pending"]) == ("partial", 1)


@on_sqlite
def test_a_days_quota_is_spent_to_the_last_request(
    environment: dict[str, str], tmp_path: Path, open_enricher: Open, simulator: Simulator
) -> None:
    """Several workers at a brisk pace: no slot is lost to the worker that is refused first."""
    environment["COWRIE_LOG_DIR"] = str(all_services.write_attacks(tmp_path / "many", routable_ips(60)))
    brisk = {"DSHIELD_RATE_LIMIT": "20", "DSHIELD_PER_DAY": "25", "ENRICH_MAX_WAIT_SECONDS": "20"}
    report = open_enricher(**brisk).run(DAY).as_dict()
    assert report["api_calls"] == {"dshield": 25}
    assert sum(simulator.calls_per_key("dshield").values()) == 25
    assert report["pending"] == 35


@on_sqlite
def test_one_request_for_many_addresses_is_planned_as_one(
    environment: dict[str, str], tmp_path: Path, open_enricher: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls and time of a service that answers lists are those of its lists, in plan and ledger."""
    environment["COWRIE_LOG_DIR"] = str(all_services.write_attacks(tmp_path / "many", routable_ips(21)))
    monkeypatch.setattr(ALL["cymru"], "batch_size", 10)
    monkeypatch.setattr(ALL["cymru"], "limits", replace(ALL["cymru"].limits, rate=0.2))
    enricher = open_enricher(ENRICH_SERVICES="cymru")
    plan = planned(enricher)["cymru"]
    assert (plan.wanted, plan.calls) == (21, 3)
    assert plan.eta_s == pytest.approx(10, rel=0.05)
    assert [point.calls for point in plan.coverage] == [0, 1, 2, 3]
    enricher.plan_and_open(DAY)
    (entry,) = enricher.ledger()
    assert (entry.backlog, entry.eta_s) == (21, pytest.approx(10, rel=0.05))


@on_sqlite
def test_nothing_to_ask_is_worth_nothing(visitors: None, open_enricher: Open) -> None:
    """No key, or no question left: no calls, no time, no points."""
    enricher = open_enricher(ENRICH_SERVICES="dshield,spur")
    enricher.run(DAY)
    for plan in enricher.plan(DAY).services.values():
        assert (plan.wanted, plan.calls, plan.eta_s, plan.coverage) == (0, 0, None, [])


@pytest.mark.parametrize("days", ["2025-11-01", "2025-11-01..2025-11-02"])
def test_a_day_alone_has_the_rates_that_it_has_among_others(
    visitors: None, open_enricher: Open, simulator: Simulator, days: str
) -> None:
    """Of three keys one is held and one is lost, though it was paid for: opening it does not hide that."""
    enricher = open_enricher()
    planned(enricher)
    enricher.fetch("dshield", [Wanted(BUSY), Wanted(EARLY)])
    enricher.cache.purge("dshield", [EARLY])
    rates = enricher.plan_and_open(Days.parse(days), by_day=True).services["dshield"].rates_by_day
    assert rates[DAY.first] == HitRates(expected=2, answered=1)
