"""Feeds before calls: lists answer for what they hold, as of their day, and only the rest is asked about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups import fetch
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.pacing import with_retries
from cowrie_enrich_dagster.services import ALL, Limits
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.tables import (
    EnrichedSession,
    EnrichmentCache,
    Lookup,
    Observation,
    SessionIp,
)
from cowrie_enrich_dagster.vocabulary import Days
from tests.logs import START, routable_ips, write_logs

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-01")
IPS = routable_ips(20)
LISTED, REST = IPS[:15], IPS[15:]
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def quick_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds without their pace."""
    for name, feed in FEEDS.items():
        if feed.limits:
            quick = replace(feed, limits=Limits(rate=1000, source="this test"))
            monkeypatch.setitem(FEEDS, name, quick)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def few_logs(environment: dict[str, str], tmp_path: Path) -> None:
    """Twenty addresses with three sessions each on the first of November; DShield's feed is on."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "few", IPS, sessions_each=3))
    environment["ENRICH_FEEDS"] = "dshield"


def dshield_list(ips: list[str]) -> Fault:
    """DShield's list with these addresses, and lookups as they are."""
    listed = [
        {"ip": ip, "count": 7, "attacks": 3, "firstseen": "2025-10-01", "lastseen": "2025-11-01"}
        for ip in ips
    ]
    return Fault(kind="reply", status=200, body=json.dumps(listed), times=1)


def feed_requests(simulator: Simulator, service: str = "dshield") -> list[str]:
    return [record.path for record in simulator.requests(service) if not record.keys]


def logged_on(enricher: Enricher, november: Iterable[int]) -> Days:
    """Let all addresses have been there on these days of November as well."""
    enricher.ingest(DAY)
    enricher.summarise_addresses(DAY)
    table = SessionIp.__table__
    with enricher.database.write() as connection:
        seen = [dict(row) for row in connection.execute(select(table)).mappings()]
        connection.execute(table.delete())
        days = [date(2025, 11, number) for number in november]
        connection.execute(table.insert(), [{**row, "day": day} for row in seen for day in days])
    return Days(min(days), max(days))


def rows(enricher: Enricher, table: Any) -> list[Any]:
    with enricher.database.read() as connection:
        query = select(table.__table__).order_by(*table.__table__.primary_key.columns)
        return list(connection.execute(query))


def test_what_a_list_holds_is_not_asked(open_enricher: Open, simulator: Simulator) -> None:
    """15 of 20 addresses are answered by one request, as of the end of that day; five are asked about."""
    simulator.set_fault("dshield", dshield_list(LISTED + routable_ips(50, offset=1000)))
    enricher = open_enricher()
    report = enricher.run(DAY).as_dict()
    assert report["feeds"]["dshield_sources"] == {
        "feed": "dshield_sources", "service": "dshield", "requests": 1, "lists": 1, "entries": 65,
        "dropped": 0, "wanted": 20, "answered": 15, "share_answered": 0.75, "left": 0, "problem": "",
    }  # fmt: skip
    assert feed_requests(simulator) == ["/sources/attacks/10000/2025-11-01?json"]
    assert simulator.calls_per_key("dshield") == dict.fromkeys(REST, 1)
    assert report["api_calls"] == {"dshield": 5}
    assert report["hits"]["feed"] == 15
    assert (report["status"], report["coverage"]) == ("complete", {"dshield": 1.0})
    told = {row.source_ip: row for row in rows(enricher, EnrichedSession)}
    for ip in LISTED:
        answer = told[ip].intel["dshield"]
        assert (answer["status"], answer["feed"]) == ("found", "dshield_sources")
        assert answer["fetched_at"] == "2025-11-01T23:59:59Z"
        assert told[ip].knowledge == "0 days after"
        assert told[ip].source_reports == 7
        assert told[ip].provenance == {"source_reports": "dshield"}
    assert {row.key for row in rows(enricher, Observation)} == set(LISTED)
    assert [(entry.status.service, entry.status.requests_total) for entry in enricher.ledger()] == [
        ("dshield", 6),  # the list is a request to the same host
    ]  # fmt: skip


def test_a_second_run_needs_neither_list_nor_calls(open_enricher: Open, simulator: Simulator) -> None:
    """What was known that day answers for that day for good, even when nothing of it is cached any more."""
    simulator.set_fault("dshield", dshield_list(LISTED))
    first = open_enricher()
    first.run(DAY)
    before = rows(first, EnrichedSession)
    sent = len(simulator.requests())
    again = open_enricher()
    again.cache.purge("dshield_sources")
    report = again.run(DAY).as_dict()
    assert len(simulator.requests()) == sent
    assert report["hits"] == {"redis": 0, "database": 5, "filesystem": 0, "feed": 15}
    assert rows(again, EnrichedSession) == before
    plan = again.plan(DAY).services["dshield"]
    assert (plan.cached["feed"], plan.cached["database"], plan.wanted) == (15, 5, 0)


def test_an_address_that_turns_up_later_is_looked_for_in_the_same_list(
    open_enricher: Open, simulator: Simulator, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Late logs cost no second request."""
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "early", IPS[5:]))
    simulator.set_fault("dshield", dshield_list(LISTED))
    open_enricher().run(DAY)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "all", IPS))
    report = open_enricher().run(DAY).as_dict()
    assert (report["feeds"]["dshield_sources"]["requests"], report["api_calls"]) == (0, {"dshield": 0})
    assert report["feeds"]["dshield_sources"]["answered"] == 5
    assert len(feed_requests(simulator)) == 1


def test_an_expired_answer_of_the_time_is_not_asked_again(open_enricher: Open, simulator: Simulator) -> None:
    """Asking now tells about now: for a day of long ago the answer that was given then stands."""
    enricher = open_enricher(ENRICH_FEEDS="none")
    enricher.run(DAY)
    then = datetime(2025, 11, 3, tzinfo=timezone.utc)
    with enricher.database.write() as connection:
        cache, lookups = EnrichmentCache.__table__, Lookup.__table__
        connection.execute(cache.update().values(fetched_at=then, expires_at=then + timedelta(days=7)))
        connection.execute(lookups.update().values(valid_until=then + timedelta(days=7)))
    found = [row.cache_key for row in rows(enricher, EnrichmentCache) if row.status == "found"]
    simulator.reset()
    report = open_enricher(ENRICH_FEEDS="none").run(DAY).as_dict()
    assert report["hits"]["history"] == len(found) > 0
    assert not set(found) & set(simulator.calls_per_key("dshield"))
    simulator.reset()
    enricher.cleanup()  # the answers move into the history proper
    assert open_enricher(ENRICH_FEEDS="none").plan(DAY).services["dshield"].cached["history"] == len(found)


def test_an_answer_of_another_time_is_none_for_that_day(open_enricher: Open, simulator: Simulator) -> None:
    """An address that comes back weeks later is asked about, whatever the old list said."""
    simulator.set_fault("dshield", dshield_list(LISTED))
    enricher = open_enricher()
    enricher.run(DAY)
    with enricher.database.write() as connection:
        late = START + timedelta(days=30)
        connection.execute(Observation.__table__.update().values(fetched_at=late))
    wanted: list[Wanted] = []
    enricher.plan(DAY, lambda service, keys: wanted.extend(keys))
    assert set(LISTED) <= {want.key for want in wanted}


@on_sqlite
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="html", times=1),
        Fault(kind="reply", status=200, body='{"error": "too many requests, slow down"}', times=1),
        Fault(kind="reply", status=200, body='{"METAKEYINFO": "sources"}', times=1),
        Fault(kind="reply", status=200, body='[{"address": "1.2.3.4"}]', times=1),
        Fault(kind="reply", status=403, times=1),
        Fault(kind="reply", status=404, times=1),
        Fault(kind="truncated", times=1),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.body[:9]}",
)
def test_a_failing_feed_costs_calls_and_nothing_else(
    fault: Fault, open_enricher: Open, simulator: Simulator
) -> None:
    """It is told, the addresses are asked about one by one, nothing is pending; it is no list to be kept."""
    simulator.set_fault("dshield", fault)
    enricher = open_enricher()
    report = enricher.run(DAY).as_dict()
    assert report["feeds"]["dshield_sources"]["problem"].startswith("the list of 2025-11-01: ")
    assert (report["status"], report["api_calls"]) == ("complete", {"dshield": 20})
    assert enricher.backlog() == {}
    assert enricher.cache.database.stats().keys() == {"dshield"}


@on_sqlite
def test_a_stop_of_the_feed_stops_the_lookups(open_enricher: Open, simulator: Simulator) -> None:
    """DShield counts by client: a Retry-After on a list is one for everything that goes there."""
    simulator.set_fault("dshield", Fault(kind="reply", status=429, retry_after_s=3600, times=1))
    report = open_enricher().run(DAY).as_dict()
    assert (report["status"], report["pending"]) == ("partial", 20)
    assert len(simulator.requests()) == 1


@on_sqlite
def test_a_stop_of_the_lookups_stops_the_feed(open_enricher: Open, simulator: Simulator) -> None:
    """And the other way round."""
    simulator.set_fault("dshield", Fault(kind="reply", status=429, retry_after_s=3600, times=1))
    open_enricher(ENRICH_FEEDS="none").run(DAY)
    sent = len(simulator.requests())
    report = open_enricher().run(DAY).as_dict()
    assert "rate_limited until" in report["feeds"]["dshield_sources"]["problem"]
    assert len(simulator.requests()) == sent


@on_sqlite
def test_after_a_list_that_fails_no_other_is_asked_for(open_enricher: Open, simulator: Simulator) -> None:
    """A feed that is broken costs a run one request, however many days it has."""
    simulator.set_fault("dshield", Fault(kind="html"))
    enricher = open_enricher()
    days = logged_on(enricher, range(1, 6))
    (report,) = enricher.fetch_feeds(days)
    assert (report.requests, report.lists, report.answered) == (1, 0, 0)
    assert report.problem.startswith("the list of 2025-11-05: invalid_response: body is not JSON")
    assert report.problem.endswith("; 4 more not asked for")


@on_sqlite
def test_a_long_backfill_goes_on_where_the_last_run_stopped(
    open_enricher: Open, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many lists a run, newest first; those at hand are read, not fetched, and do not count."""
    monkeypatch.setattr("cowrie_enrich_dagster.enrichment.feeds.MAX_LISTS", 2)
    enricher = open_enricher()
    days = logged_on(enricher, range(1, 6))
    simulator.set_fault("dshield", Fault(kind="reply", status=200, body="[]"))
    runs = [enricher.fetch_feeds(days)[0] for _ in range(4)]
    assert [(report.requests, report.lists, report.left) for report in runs] == [
        (2, 2, 3), (2, 4, 1), (1, 5, 0), (0, 5, 0),
    ]  # fmt: skip
    asked = [path.split("/")[4].partition("?")[0] for path in feed_requests(simulator)]
    assert asked == [f"2025-11-0{day}" for day in (5, 4, 3, 2, 1)]


def test_what_a_list_answers_is_not_waiting_any_more(open_enricher: Open, simulator: Simulator) -> None:
    """Lookups that an earlier run had to put off are closed by the list."""
    enricher = open_enricher(ENRICH_FEEDS="none")
    days = logged_on(enricher, [1])
    enricher.queue.open("dshield", map(Wanted, IPS))
    simulator.set_fault("dshield", dshield_list(LISTED))
    later = open_enricher()
    later.fetch_feeds(days)
    assert later.backlog()["dshield"].total == len(REST)
    later.drain()
    assert set(simulator.calls_per_key("dshield")) == set(REST)


def test_of_two_lists_the_one_of_the_day_is_shown(
    open_enricher: Open, simulator: Simulator, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A list is as of the end of its day; one of a month before, expired since, does not hide it."""
    december = START + timedelta(days=30)
    for number, start in enumerate((START, december)):
        logs = write_logs(tmp_path / f"logs{number}", IPS[:1], start=start)
        log = logs / "cowrie.json"
        log.write_text(log.read_text().replace("sensor-a", f"sensor-{number}"))
        environment["COWRIE_LOG_DIR"] = str(logs)
        simulator.set_fault("dshield", dshield_list(IPS[:1]))
        enricher = open_enricher()
        assert enricher.run(Days(start.date(), start.date())).as_dict()["api_calls"] == {"dshield": 0}
    told = {row.day: row for row in rows(enricher, EnrichedSession)}
    for day in (START.date(), december.date()):
        assert told[day].intel["dshield"]["fetched_at"] == f"{day}T23:59:59Z"
        assert told[day].knowledge == "0 days after"


def test_an_answer_that_held_that_day_is_enough(open_enricher: Open, simulator: Simulator) -> None:
    """Fetched a day before, expired since: it was known then, and asking now would not change the row."""
    enricher = open_enricher(ENRICH_FEEDS="none")
    enricher.run(DAY)
    then = START - timedelta(days=1)
    with enricher.database.write() as connection:
        cache, lookups = EnrichmentCache.__table__, Lookup.__table__
        found = cache.c.status == "found"
        connection.execute(cache.delete().where(~found))
        connection.execute(cache.update().values(fetched_at=then, expires_at=then + timedelta(days=7)))
        connection.execute(lookups.update().values(valid_until=then))
    known = {row.cache_key for row in rows(enricher, EnrichmentCache)}
    simulator.reset()
    open_enricher(ENRICH_FEEDS="none").run(DAY)
    assert known
    assert not known & set(simulator.calls_per_key("dshield"))
    for row in rows(enricher, EnrichedSession):
        if row.source_ip in known:
            assert row.intel["dshield"]["fetched_at"] == f"{then:%Y-%m-%dT%H:%M:%SZ}"
            assert (row.knowledge, row.intel["dshield"]["stale"]) == ("before", True)


def test_who_comes_back_weeks_later_gets_the_answer_that_was_asked_for_then(
    open_enricher: Open, simulator: Simulator
) -> None:
    """The old answer had expired by then: the new one, paid for, is what the row shows."""
    enricher = open_enricher(ENRICH_FEEDS="none")
    enricher.run(DAY)
    long_ago = START - timedelta(days=60)
    with enricher.database.write() as connection:
        cache = EnrichmentCache.__table__
        connection.execute(
            cache.update().values(fetched_at=long_ago, expires_at=long_ago + timedelta(days=7))
        )
        connection.execute(Lookup.__table__.update().values(valid_until=long_ago))
    simulator.reset()
    report = open_enricher(ENRICH_FEEDS="none").run(DAY).as_dict()
    assert report["api_calls"] == {"dshield": 20}
    for row in rows(enricher, EnrichedSession):
        assert row.knowledge.endswith("days after")
        assert "stale" not in row.intel["dshield"]


def test_a_purge_takes_the_history_too(open_enricher: Open, simulator: Simulator) -> None:
    """What was purged is asked again, whatever was known at the time."""
    simulator.set_fault("dshield", dshield_list(LISTED))
    enricher = open_enricher()
    enricher.run(DAY)
    assert enricher.purge("dshield", LISTED[:2])["history"] == 2
    assert enricher.purge("dshield_sources")["history"] == len(LISTED) - 2
    again = open_enricher(ENRICH_FEEDS="none").run(DAY).as_dict()
    assert set(simulator.calls_per_key("dshield")) == set(IPS)
    assert again["status"] == "complete"


@on_sqlite
def test_a_feed_out_of_reach_fails_no_run(open_enricher: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: the feed is a problem in the report, the lookups are pending, the run goes on."""
    monkeypatch.setattr(fetch, "with_retries", partial(with_retries, backoff_base=0.01))
    report = open_enricher(DSHIELD_API_URL="http://127.0.0.1:9").run(DAY).as_dict()
    assert "error" in report["feeds"]["dshield_sources"]["problem"]
    assert (report["status"], report["sessions"]) == ("partial", 60)


@on_sqlite
def test_todays_blacklist_answers_as_a_lookup_of_today_would(
    open_enricher: Open, simulator: Simulator, environment: dict[str, str], tmp_path: Path
) -> None:
    """AbuseIPDB's list is always the current one: what it holds needs no call, for whatever day."""
    key = {
        "ABUSEIPDB_API_URL": simulator.url("abuseipdb"),
        "ABUSEIPDB_API_KEY": "k",
        "ABUSEIPDB_RATE_LIMIT": "500",
    }
    environment.update(key, ENRICH_SERVICES="abuseipdb", ENRICH_FEEDS="")
    now = datetime.now(timezone.utc)
    data = [{"ipAddress": ip, "countryCode": "NL", "abuseConfidenceScore": 100} for ip in IPS[:8]]
    body = json.dumps({"meta": {"generatedAt": now.isoformat()}, "data": data})
    simulator.set_fault("abuseipdb", Fault(kind="reply", status=200, body=body, times=1))
    start = (now - timedelta(days=1)).replace(hour=1, minute=0)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "new", IPS[:10], start=start))
    enricher = open_enricher()
    report = enricher.run(Days(start.date(), start.date())).as_dict()
    assert report["feeds"]["abuseipdb_blacklist"]["answered"] == 8
    assert report["api_calls"] == {"abuseipdb": 2}
    known = [row.fetched_at for row in rows(enricher, Observation)]
    assert all(now - timedelta(minutes=1) < moment <= datetime.now(timezone.utc) for moment in known)
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "old", IPS[:10]))
    old = open_enricher().run(DAY).as_dict()
    assert (old["hits"]["feed"], old["api_calls"]) == (8, {"abuseipdb": 0})
    assert len(feed_requests(simulator, "abuseipdb")) == 1
    scores = [
        row.source_abuse_score for row in rows(enricher, EnrichedSession) if "feed" in row.intel["abuseipdb"]
    ]
    assert set(scores) == {100}


@on_sqlite
def test_a_list_of_the_day_after_answers_for_the_day_before(
    open_enricher: Open, simulator: Simulator
) -> None:
    """Within the answer's time to live a later list counts, as learned later."""
    enricher = open_enricher()
    two_days = logged_on(enricher, [1, 2])
    with enricher.database.write() as connection:  # only one of them was still there on the second
        table = SessionIp.__table__
        connection.execute(table.delete().where(table.c.day == two_days.last, table.c.src_ip != IPS[0]))
    empty = Fault(kind="reply", status=200, body="[]", times=1)
    newest_first = (dshield_list(LISTED), empty)
    simulator.set_fault("dshield", *newest_first)
    (report,) = enricher.fetch_feeds(two_days)
    assert (report.requests, report.answered, report.wanted) == (2, 15, 20)
    assert {row.fetched_at.date() for row in rows(enricher, Observation)} == {date(2025, 11, 2)}


@on_sqlite
@pytest.mark.parametrize(
    ("services", "feeds", "read"),
    [
        ("dshield", "", ()),
        ("dshield,cymru", "", ()),  # neither would tell the country of what is on the list
        ("dshield,maxmind", "", ("dshield_sources",)),
        ("dshield,cymru", "none", ()),
        ("dshield", "dshield", ("dshield_sources",)),
        ("cymru", "dshield", ()),
        ("dshield,abuseipdb", "", ()),  # no key
    ],
)
def test_which_feeds_are_read(services: str, feeds: str, read: tuple[str, ...], open_enricher: Open) -> None:
    """Those of services that take part; by default not at the price of network and country."""
    changes = {"ENRICH_SERVICES": services, "ENRICH_FEEDS": feeds, "MAXMIND_DB_PATH": "any.mmdb"}
    assert open_enricher(**changes).feeds == read


def test_every_feed_belongs_to_a_service_that_a_setting_can_name() -> None:
    """ENRICH_FEEDS speaks of services."""
    from cowrie_enrich_dagster.settings.values import FEED_SERVICES

    assert set(FEED_SERVICES) == {feed.service for feed in FEEDS.values()} <= set(ALL)
