"""A run has a time: rows at once, answers as they come, the rest by drains, nothing lost in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups import fetch
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.lookups.order import PRIORITY
from cowrie_enrich_dagster.lookups.stop import TIME_IS_OVER
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests import all_services
from tests.logs import START, routable_ips, write_logs
from tests.priority import priority_of

Open = Callable[..., Enricher]
DAY, NEXT_DAY = Days.parse("2025-11-01"), Days.parse("2025-11-02")
IPS = routable_ips(12)
SLOW = {"DSHIELD_RATE_LIMIT": "2", "ENRICH_MAX_RUN_SECONDS": "3"}
# What does not depend on the engine is shown on the one that needs no server.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def logs(environment: dict[str, str], tmp_path: Path) -> Path:
    """Three sessions of each of twelve addresses, and on the next day one of the first six."""
    write_logs(tmp_path / "logs" / "one", IPS, sessions_each=3)
    write_logs(tmp_path / "logs" / "two", IPS[:6], start=START + timedelta(days=1), sensor="sensor-b")
    environment["COWRIE_LOG_DIR"] = str(tmp_path / "logs")
    return tmp_path / "logs"


def statuses(enricher: Enricher, days: Days = DAY) -> dict[str, str]:
    """The status in the rows of each address; all rows of one agree."""
    query = text("SELECT DISTINCT source_ip, intel FROM enriched_sessions WHERE day BETWEEN :first AND :last")
    with enricher.database.read() as connection:
        rows = connection.execute(query, {"first": str(days.first), "last": str(days.last)}).all()
    told: dict[str, str] = {}
    for ip, intel in rows:
        status = (json.loads(intel) if isinstance(intel, str) else intel)["dshield"]["status"]
        assert told.setdefault(ip, status) == status
    return told


def open_lookups(enricher: Enricher, days: Days) -> None:
    """The days as a run leaves them that has had no time to ask."""
    enricher.ingest(days)
    enricher.summarise_addresses(days)
    enricher.plan_and_open(days)
    enricher.enrich(days)


def test_rows_do_not_wait_for_answers(open_enricher: Open, simulator: Simulator) -> None:
    """While the first requests still hang, every session has its row, and says `deferred`."""
    simulator.set_fault("dshield", Fault(kind="hang", delay_s=4.0))
    enricher = open_enricher(ENRICH_MAX_RUN_SECONDS="60")
    run = Thread(target=enricher.run, args=(DAY,))
    run.start()
    watcher = open_enricher()
    while not simulator.requests("dshield"):
        assert run.is_alive()
        time.sleep(0.02)
    assert statuses(watcher) == dict.fromkeys(IPS, "deferred")
    simulator.set_fault("dshield")
    run.join()


def test_a_run_ends_in_its_time_and_says_what_is_left(open_enricher: Open, simulator: Simulator) -> None:
    """At two a second for three seconds: partial and green, with the pending ones, why, and until when."""
    started = time.monotonic()
    enricher = open_enricher(**SLOW)
    report = enricher.run(DAY).as_dict()
    assert time.monotonic() - started < 20
    asked = len(simulator.requests("dshield"))
    assert 1 <= asked <= 8
    assert report["status"] == "partial"
    assert report["sessions"] == 36
    assert report["pending"] == len(IPS) - asked
    assert report["pending_by_service"] == {"dshield": report["pending"]}
    assert report["eta_by_service"] == {"dshield": report["eta_s"]}
    assert report["eta_s"] == pytest.approx(report["pending"] / 2, abs=1.5)
    assert report["stopped"] == {"dshield": TIME_IS_OVER}
    told = statuses(enricher)
    assert len(told) == len(IPS)
    answered = {record.keys[0] for record in simulator.requests("dshield")}
    assert {ip for ip, status in told.items() if status != "deferred"} == answered
    assert report["lookups"]["dshield"]["deferred"] == report["pending"]


def test_to_wait_is_to_go_on_to_the_end(open_enricher: Open, simulator: Simulator) -> None:
    """`run --wait` asks everything when ENRICH_MAX_RUN_SECONDS is not set; when it is, that holds."""
    report = open_enricher(**SLOW).run(NEXT_DAY, wait=True).as_dict()
    assert report["status"] in ("partial", "complete")
    report = open_enricher(DSHIELD_RATE_LIMIT="20").run(DAY, wait=True).as_dict()
    assert (report["status"], report["pending"], report["eta_s"]) == ("complete", 0, 0.0)
    assert simulator.calls_per_key("dshield") == dict.fromkeys(IPS, 1)


def test_a_drain_writes_the_rows_of_what_it_learned_and_no_others(
    open_enricher: Open, simulator: Simulator
) -> None:
    """Sessions of every day in which the key occurs; the rows of other keys are left as they are."""
    enricher = open_enricher()
    open_lookups(enricher, Days(DAY.first, NEXT_DAY.last))
    mark = "UPDATE enriched_sessions SET user_name = 'untouched'"
    with enricher.database.write() as connection:
        connection.execute(text(mark))
    enricher.fetch("dshield", [Wanted(IPS[0]), Wanted(IPS[9])])
    learned = enricher.write_news()
    with enricher.database.read() as connection:
        query = text("SELECT source_ip, count(*) FROM enriched_sessions WHERE user_name IS NULL GROUP BY 1")
        written = {ip: number for ip, number in connection.execute(query)}  # noqa: C416
    assert written == {IPS[0]: 4, IPS[9]: 3}
    assert (learned.lookups, learned.sessions, learned.days) == (2, 7, {DAY.first, NEXT_DAY.first})
    assert enricher.write_news().lookups == 0


def test_drained_and_run_at_once_the_rows_are_the_same(
    environment: dict[str, str], open_enricher: Open, database_url: str
) -> None:
    """Slices that write what they learned end with the rows of a run that had all the time."""
    span = Days(DAY.first, NEXT_DAY.last)
    drained = open_enricher()
    open_lookups(drained, span)
    report = drained.drain()
    assert report.run.pending == 0
    assert set(report.days) <= {DAY.first, NEXT_DAY.first}

    def rows(enricher: Enricher) -> list[Any]:
        with enricher.database.read() as connection:
            query = text("SELECT * FROM enriched_sessions ORDER BY sensor, session_id")
            return list(connection.execute(query).all())

    sliced = rows(drained)
    drained.enrich(span)
    assert rows(drained) == sliced
    assert "deferred" not in statuses(drained, span).values()


def test_what_a_killed_drain_has_learned_is_written_by_the_next(open_enricher: Open) -> None:
    """Answers that are stored, but not in the rows yet, are not forgotten."""
    enricher = open_enricher()
    open_lookups(enricher, DAY)
    enricher.fetch("dshield", [Wanted(ip) for ip in IPS])  # and killed before `write_news`
    after = open_enricher()
    report = after.drain()
    assert report.fetched == []
    assert "deferred" not in statuses(after).values()


def test_new_logs_are_asked_about_before_old_questions(
    open_enricher: Open, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equals the newest come first, whoever asks: a run over an old day does not jump the queue."""
    monkeypatch.setattr(fetch, "MAX_WORKERS", 1)  # several would send in another order than they claim
    monkeypatch.setattr(fetch, "CLAIMED_SECONDS", 0.0)  # one by one
    enricher = open_enricher(DSHIELD_RATE_LIMIT="20")
    open_lookups(enricher, NEXT_DAY)
    enricher.run(DAY)
    asked = [record.keys[0] for record in simulator.requests("dshield")]
    assert asked[:6] == IPS[:6]
    assert set(asked) == set(IPS)


@on_sqlite
def test_a_run_does_not_ask_on_when_its_own_keys_are_closed(
    open_enricher: Open, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a long queue of others' keys of less worth, a run ends as soon as its own are answered."""
    monkeypatch.setattr(fetch, "GOAL_EVERY_S", 0.2)
    enricher = open_enricher(DSHIELD_RATE_LIMIT="3")
    others = routable_ips(500, offset=1000)
    enricher.queue.open("dshield", [Wanted(ip, 0, DAY.first - timedelta(days=9)) for ip in others])
    report = enricher.run(NEXT_DAY).as_dict()
    assert report["status"] == "complete"
    assert set(IPS[:6]) <= set(simulator.calls_per_key("dshield"))
    assert len(simulator.requests("dshield")) < 150
    assert enricher.backlog()["dshield"].total > 350


@on_sqlite
def test_a_backlog_that_grows_faster_than_the_quota_never_ends(open_enricher: Open) -> None:
    """30 a day may be asked and 300 come in: no date is promised, the ledger says never."""
    enricher = open_enricher(DSHIELD_PER_DAY="30", DSHIELD_RATE_LIMIT="1")
    with enricher.database.read() as connection:
        today = enricher.database.now(connection).date()
    enricher.queue.open("dshield", [Wanted(ip, 0, today) for ip in routable_ips(300)])
    (entry,) = enricher.ledger()
    assert entry.is_never
    assert entry.eta_s is None
    assert entry.arriving_per_day == pytest.approx(300)
    enricher = open_enricher(DSHIELD_PER_DAY="600", DSHIELD_RATE_LIMIT="1")
    (entry,) = enricher.ledger()
    assert not entry.is_never
    assert entry.eta_s is not None  # 300 wait and 300 a day come in: all that 600 a day allow


@on_sqlite
def test_a_service_that_comes_later_gets_its_turn_for_past_days(
    environment: dict[str, str], open_enricher: Open, simulator: Simulator, tmp_path: Path
) -> None:
    """One command asks it what it was never asked: addresses, files and passwords; of newest days first."""
    folder = tmp_path / "attacks"
    environment["COWRIE_LOG_DIR"] = str(
        all_services.write_attacks(folder, IPS, all_services.hashes(3), ["123456", "love"])
    )
    open_enricher().run(DAY)
    later = {
        "ENRICH_SERVICES": "dshield,spur,virustotal,hibp",
        **{f"{name.upper()}_API_URL": simulator.url(name) for name in ("spur", "virustotal", "hibp")},
        **{f"{name.upper()}_API_KEY": "key" for name in ("spur", "virustotal")},
        **{f"{name.upper()}_RATE_LIMIT": "50" for name in ("spur", "virustotal", "hibp")},
        **{f"VIRUSTOTAL_PER_{window}": "0" for window in ("MINUTE", "DAY")},
    }
    enricher = open_enricher(**later)
    report = enricher.refresh(timedelta(hours=24), timedelta(days=7)).as_dict()
    assert report["pending"] == 0
    assert set(simulator.calls_per_key("spur")) == set(IPS)
    assert set(simulator.calls_per_key("virustotal")) == set(all_services.hashes(3))
    assert len(simulator.calls_per_key("hibp")) == 2
    with enricher.database.read() as connection:
        query = text("SELECT count(*) FROM enriched_sessions WHERE provenance IS NOT NULL")
        assert connection.execute(query).scalar_one() >= 3
    assert enricher.refresh(timedelta(hours=24), timedelta(days=7)).as_dict()["api_calls"].get("spur") == 0


@on_sqlite
def test_a_limit_on_a_refresh_takes_the_most_valuable(open_enricher: Open, simulator: Simulator) -> None:
    """`--limit 2`: two keys, those that come first in the order of asking."""
    enricher = open_enricher()
    enricher.ingest(Days(DAY.first, NEXT_DAY.last))
    enricher.summarise_addresses(Days(DAY.first, NEXT_DAY.last))
    enricher.refresh(timedelta(hours=24), timedelta(days=7), service="dshield", limit=2)
    assert list(simulator.calls_per_key("dshield")) == IPS[:2]


@on_sqlite
def test_changed_lists_name_the_days_that_do_not_follow_them_yet(open_enricher: Open) -> None:
    """Networks listed after a day was enriched: it is named until it is run again; then its rows follow."""
    open_enricher().run(Days(DAY.first, NEXT_DAY.last))
    listed = open_enricher(ENRICH_OWN_NETWORKS=IPS[0])
    report = listed.run(NEXT_DAY).as_dict()
    assert report["days_of_other_lists"] == [str(DAY.first)]
    assert listed.run(DAY).as_dict()["days_of_other_lists"] == []
    with listed.database.read() as connection:
        query = text("SELECT DISTINCT source_scope FROM enriched_sessions WHERE source_ip = :ip")
        assert list(connection.execute(query, {"ip": IPS[0]}).scalars()) == ["own"]


def test_a_million_mere_connects_do_not_outweigh_a_login(database: Database) -> None:
    """Priority is by class first, on either engine, and the same as when it is figured out key by key."""
    sums = [(10**6, 9, 0, 0), (1, 1, 0, 1), (10**6, 1, 0, 9), (1, 1, 1, 0), (4999, 1, 3, 0), (2, 3, 1, 1)]
    found = []
    with database.read() as connection:
        for sessions, sensors, login_successes, uploads in sums:
            row = f"SELECT {sessions} AS sessions, {sensors} AS sensors, {login_successes} AS login_successes"
            query = f"SELECT {PRIORITY} FROM ({row}, 0 AS downloads, {uploads} AS uploads) AS summed_up"
            found.append(connection.execute(text(query)).scalar_one())
    assert found[0] < found[1]
    assert found[2] < found[3]
    assert found == [
        priority_of(sessions=sessions, sensors=sensors, login_successes=logins, files=uploads)
        for sessions, sensors, logins, uploads in sums
    ]
