"""Findings of a review of the queue, the budget and the news, each as it went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher, asking
from cowrie_enrich_dagster.enrichment.join import enrich_touched
from cowrie_enrich_dagster.enrichment.keys import Key, touch
from cowrie_enrich_dagster.enrichment.knowledge import Knowledge
from cowrie_enrich_dagster.enrichment.learned import write_news
from cowrie_enrich_dagster.enrichment.run_report import RunReport
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.vocabulary import Days, Subject
from tests.logs import routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
IPS = routable_ips(6)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A session of each of six addresses, where the test has a pipeline."""
    if "open_enricher" in request.fixturenames:
        write_logs(tmp_path / "logs" / "one", IPS)
        request.getfixturevalue("environment")["COWRIE_LOG_DIR"] = str(tmp_path / "logs")


def opened(enricher: Enricher) -> None:
    """The day as a run leaves it that has had no time to ask."""
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    enricher.plan_and_open(DAY)
    enricher.enrich(DAY)


def intel(enricher: Enricher, ip: str) -> dict[str, Any]:
    query = text("SELECT intel FROM enriched_sessions WHERE source_ip = :ip")
    with enricher.database.read() as connection:
        told = connection.execute(query, {"ip": ip}).scalar_one()
    plain: dict[str, Any] = json.loads(told) if isinstance(told, str) else told
    return plain


def slices_of(enricher: Enricher, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which the enricher begins to ask."""
    begun: list[float] = []
    ask = asking.all_at_once

    def counted(work: Any) -> Any:
        begun.append(time.monotonic())
        return ask(work)

    monkeypatch.setattr(asking, "all_at_once", counted)
    return begun


@on_sqlite
def test_without_its_key_a_service_is_not_asked_what_was_opened_before(
    open_enricher: Open, simulator: Simulator
) -> None:
    """The key was taken out of the settings: its open lookups wait, and nobody asks them without it."""
    keyless = {"ENRICH_SERVICES": "dshield,spur", "SPUR_API_URL": simulator.url("spur")}
    open_enricher(**keyless).queue.open("spur", [Wanted(IPS[0])])
    enricher = open_enricher(**keyless)
    assert enricher.askable() == {}
    enricher.drain()
    assert simulator.requests("spur") == []


def test_news_that_others_go_on_making_does_not_hold_a_run(open_enricher: Open) -> None:
    """While another worker asks on, what had ended when the writing began is written, and that is all."""
    enricher, other = open_enricher(), open_enricher()
    opened(enricher)
    enricher.fetch("dshield", [Wanted(IPS[0])])
    rest = iter(IPS[1:])

    def meanwhile(found: Mapping[Subject, Sequence[Key]]) -> list[Knowledge]:
        if (ip := next(rest, None)) is not None:
            other.fetch("dshield", [Wanted(ip)])
        return enricher.knowledge_of(found)

    learned = write_news(enricher.database, enricher.queue, enricher.services, meanwhile, enricher.spans_of)
    assert learned.lookups == 1
    assert enricher.write_news().lookups == 1


def test_a_row_whose_keys_were_not_gathered_stays_as_it_is(open_enricher: Open) -> None:
    """A session that came, and was enriched, after its keys were looked for is not blanked."""
    enricher = open_enricher()
    enricher.run(DAY)
    before = intel(enricher, IPS[0])
    database = enricher.database
    enrich_touched(database, lambda c: touch(database, c, {Subject.IP: [IPS[0]]}), [], [], [], lambda _: None)
    assert intel(enricher, IPS[0]) == before


def test_what_another_has_written_meanwhile_is_not_taken_back(
    open_enricher: Open, simulator: Simulator
) -> None:
    """Two write news about one address: who gathered first and writes last does not lose the other's."""
    both = {
        "ENRICH_SERVICES": "dshield,spur",
        "SPUR_API_URL": simulator.url("spur"),
        "SPUR_API_KEY": "key",
        "SPUR_RATE_LIMIT": "50",
    }
    slow, quick = open_enricher(**both), open_enricher(**both)
    opened(slow)
    slow.fetch("dshield", [Wanted(IPS[0])])

    def outrun(found: Mapping[Subject, Sequence[Key]]) -> list[Knowledge]:
        gathered = slow.knowledge_of(found)
        quick.fetch("spur", [Wanted(IPS[0])])
        quick.write_news()
        return gathered

    write_news(slow.database, slow.queue, slow.services, outrun, slow.spans_of)
    slow.write_news()
    told = intel(slow, IPS[0])
    assert "deferred" not in {told[name]["status"] for name in ("dshield", "spur")}


@on_sqlite
def test_no_retry_begins_after_the_time_of_a_run(open_enricher: Open, simulator: Simulator) -> None:
    """Each Retry-After fits into the run, all together do not."""
    simulator.set_fault("dshield", Fault(kind="reply", status=429, retry_after_s=1))
    started = time.time()
    open_enricher(ENRICH_MAX_RUN_SECONDS="3", ENRICH_MAX_WAIT_SECONDS="100").run(DAY)
    assert all(record.wall - started < 3.5 for record in simulator.requests("dshield"))


@on_sqlite
def test_a_slot_after_the_end_of_a_run_ends_it_once(
    open_enricher: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the patience, but not within the time: nothing is gained by asking for it over and over."""
    enricher = open_enricher(ENRICH_MAX_RUN_SECONDS="2")
    enricher.queue.open("dshield", [Wanted(IPS[0])])
    enricher.source("dshield").limiter.pause(60)
    begun = slices_of(enricher, monkeypatch)
    enricher.drain(until=time.monotonic() + 2)
    assert len(begun) == 1


@on_sqlite
def test_a_slot_in_a_later_slice_is_waited_for(
    open_enricher: Open, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain by hand whose patience is longer than a slice sleeps until its slot, and then asks."""
    monkeypatch.setattr("cowrie_enrich_dagster.settings.model.DEFAULT_RUN_S", 1.0)
    enricher = open_enricher(ENRICH_MAX_WAIT_SECONDS="600")
    enricher.queue.open("dshield", [Wanted(IPS[0])])
    enricher.source("dshield").limiter.pause(2.5)
    begun = slices_of(enricher, monkeypatch)
    enricher.drain()
    assert len(simulator.requests("dshield")) == 1
    assert len(begun) <= 5


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_counts_stay_few_where_no_drain_ever_comes(open_enricher: Open) -> None:
    """Runs that finish what they ask need no drain; the differences they write are added up all the same."""
    enricher = open_enricher()
    for _ in range(2):
        enricher.run(DAY)
        enricher.purge("dshield")
    enricher.plan_and_open(DAY)
    with enricher.database.read() as connection:
        rows = connection.execute(text("SELECT count(*) FROM lookup_counts")).scalar_one()
    assert rows <= 3


@on_sqlite
def test_a_refresh_goes_by_what_the_key_is_worth_now(open_enricher: Open) -> None:
    """Opened long ago for a mere connect and seen again since: its refresh has its place of today."""
    enricher = open_enricher()
    enricher.run(DAY)
    first = date(2025, 10, 1)
    with enricher.database.write() as connection:
        old = text("UPDATE lookups SET priority = 0, last_day = :day")
        connection.execute(old, {"day": str(first)})
    enricher.refresh(timedelta(days=30), timedelta(days=4000), until=time.monotonic())
    with enricher.database.read() as connection:
        query = text("SELECT DISTINCT is_refresh, last_day, priority > 0 FROM lookups")
        assert connection.execute(query).all() == [(1, str(DAY.first), 1)]


@on_sqlite
def test_what_others_answered_meanwhile_is_not_said_to_take_for_ever(open_enricher: Open) -> None:
    """Pending when the run stopped asking, answered by a drain before it looked at the ledger."""
    report = RunReport.for_services(["dshield"], DAY)
    report.pending_by_service = {"dshield": 3}
    report.foresee(open_enricher().ledger())
    assert report.eta_s == 0.0
