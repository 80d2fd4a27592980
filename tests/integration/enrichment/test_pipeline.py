"""The whole pipeline on real logs: every session has its row, every address is asked once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.settings import ConfigError
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.storage.migrate import SchemaOutdated, downgrade
from cowrie_enrich_dagster.storage.tables import (
    EnrichedSession,
    EnrichmentCache,
    EnrichmentRun,
    Json,
    SessionIp,
    SessionRecord,
    table_of,
)
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.enrichment.conftest import SAMPLE_DAYS
from tests.logs import routable_ips, write_logs

DAY = Days.parse("2025-11-01")
Open = Callable[..., Enricher]


def rows(enricher: Enricher, table: Any) -> list[tuple[Any, ...]]:
    with enricher.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]


def derived(enricher: Enricher) -> list[list[tuple[Any, ...]]]:
    return [rows(enricher, table.__table__) for table in (SessionRecord, SessionIp, EnrichedSession)]


@pytest.mark.sampled
def test_the_sample_logs_become_enriched_sessions(open_enricher: Open) -> None:
    """1,400 sessions, 8,248 events, 178 addresses of which 174 may be asked; each was, once."""
    enricher = open_enricher()
    ((*_, report),) = rows(enricher, table_of(EnrichmentRun))
    assert (report["sessions"], report["events"], report["ips"]) == (1400, 8248, 178)
    assert report["status"] == "complete"
    assert report["quarantined"] == report["pending"] == 0
    counts = report["lookups"]["dshield"]
    assert counts.pop("skipped_policy") == 4
    assert sum(counts.values()) == report["api_calls"]["dshield"] == 174
    assert set(counts) <= {"found", "not_found"}
    enriched = {row[:2] for row in rows(enricher, EnrichedSession.__table__)}
    assert enriched == {row[:2] for row in rows(enricher, SessionRecord.__table__)}
    assert len(enriched) == 1400


@pytest.mark.sampled
def test_a_second_run_asks_nothing_and_changes_nothing(open_enricher: Open, simulator: Simulator) -> None:
    """The same input gives the same rows, and no call is made."""
    before = derived(open_enricher())
    second = open_enricher()
    report = second.run(SAMPLE_DAYS).as_dict()
    assert report["api_calls"] == {"dshield": 0}
    assert report["hits"] == {"redis": 0, "database": 174, "filesystem": 0}
    assert derived(second) == before
    assert simulator.requests("dshield") == []


@pytest.mark.sampled
def test_with_redis_the_rows_are_the_same(open_enricher: Open, redis_port: int) -> None:
    """Redis answers the second run that knows it; what is in the tables does not depend on it."""
    first = open_enricher(ENABLE_REDIS_CACHE="true", REDIS_PORT=str(redis_port))
    before = derived(first)
    assert first.run(SAMPLE_DAYS).as_dict()["hits"]["database"] == 174
    assert derived(first) == before
    second = open_enricher(ENABLE_REDIS_CACHE="true", REDIS_PORT=str(redis_port))
    assert second.run(SAMPLE_DAYS).as_dict()["hits"]["redis"] == 174
    assert derived(second) == before


@pytest.mark.sampled
def test_a_row_tells_what_is_known_and_when_it_was_learned(open_enricher: Open) -> None:
    """AS and country are in the row, the service's own answer is in `answers`; a private one says why not."""
    enricher = open_enricher()
    table = EnrichedSession.__table__
    with enricher.database.read() as connection:
        known = connection.execute(
            select(table).where(table.c.source_as_number.is_not(None)).limit(1)
        ).mappings().one()  # fmt: skip
        private = connection.execute(
            select(table).where(table.c.source_ip == "192.168.1.20").limit(1)
        ).mappings().one()  # fmt: skip
    answer = known["intel"]["dshield"]
    assert answer["status"] == "found"
    assert sorted(answer) == ["fetched_at", "status"]
    datetime.strptime(answer["fetched_at"], "%Y-%m-%dT%H:%M:%SZ")
    assert known["provenance"]["source_as_number"] == "dshield"
    with enricher.database.read() as connection:
        told = text("SELECT payload FROM answers WHERE key = :ip").columns(payload=Json)
        payload = connection.execute(told, {"ip": known["source_ip"]}).scalar_one()
    assert payload["ip"]["as"] == known["source_as_number"]
    assert known["knowledge"].endswith("days after")
    assert private["source_scope"] == "private"
    assert private["intel"] == {"dshield": {"status": "skipped_policy"}}
    assert private["knowledge"] == "unknown"


@pytest.mark.sampled
def test_one_day_at_a_time_gives_the_rows_of_one_range(open_enricher: Open) -> None:
    """Sessions over midnight belong to the day they began, however the days are asked for."""
    enricher = open_enricher()
    whole = derived(enricher)
    for day in reversed(list(SAMPLE_DAYS)):
        enricher.run(Days(day, day))
    assert derived(enricher) == whole


def test_failures_are_never_taken_for_clean(
    open_enricher: Open, simulator: Simulator, few_logs: list[str]
) -> None:
    """While the service sends nonsense it is left alone soon, nothing is cached; mended, it answers all."""
    simulator.set_fault("dshield", Fault(kind="html"))
    enricher = open_enricher()
    report = enricher.run(DAY).as_dict()
    assert (report["status"], report["pending"]) == ("partial", len(few_logs))
    counts = report["lookups"]["dshield"]
    assert 5 <= counts["invalid_response"] == len(simulator.requests("dshield")) <= 5 + 8
    assert counts["invalid_response"] + counts["deferred"] == len(few_logs)
    assert report["stopped"] == {"dshield": "5 lookups in a row failed"}
    assert rows(enricher, EnrichmentCache.__table__) == []
    simulator.set_fault("dshield")
    sent = len(simulator.requests("dshield"))
    paused = open_enricher(ENRICH_MAX_WAIT_SECONDS="5").run(DAY).as_dict()
    assert paused["stopped"]["dshield"].startswith("unavailable until ")
    assert len(simulator.requests("dshield")) == sent
    with enricher.database.write() as connection:  # as if the minute were over
        connection.execute(text("UPDATE service_limits SET cooldown_until = 0"))
    mended = open_enricher().run(DAY).as_dict()
    assert mended["status"] == "complete"
    assert mended["coverage"]["dshield"] == 1.0


def test_a_stop_that_was_lifted_by_hand_lets_the_next_run_ask(
    open_enricher: Open, simulator: Simulator, few_logs: list[str]
) -> None:
    """The runbook's way: with the limiter's row cleared, what was put off for an hour is asked at once.

    Until then every run says why nothing is asked, and the ledger when that will be.
    """
    simulator.set_fault("dshield", Fault(kind="reply", status=429, retry_after_s=3600, times=1))
    enricher = open_enricher()
    enricher.run(DAY)
    sent = len(simulator.requests("dshield"))
    again = open_enricher().run(DAY).as_dict()
    assert again["stopped"]["dshield"].startswith("rate_limited until ")
    assert len(simulator.requests("dshield")) == sent
    (entry,) = enricher.ledger()
    assert entry.eta_s is not None
    assert 3400 < entry.eta_s < 3700
    with enricher.database.write() as connection:
        connection.execute(
            text("UPDATE service_limits SET cooldown_until = 0, penalty_until = 0, consecutive_failures = 0")
        )
    assert open_enricher().run(DAY).as_dict()["status"] == "complete"


def test_a_backlog_that_backs_off_is_not_done_before_its_time(
    open_enricher: Open, simulator: Simulator
) -> None:
    """What failed is tried again in a minute: the ledger says so, and who finds nothing due is told why."""
    simulator.set_fault("dshield", Fault(kind="html"))
    enricher = open_enricher()
    fetched = enricher.fetch("dshield", [Wanted("8.8.8.8")])
    assert fetched.stopped_because.startswith("invalid_response: body is not JSON")
    (entry,) = enricher.ledger()
    assert (entry.backlog, entry.eta_s) == (1, pytest.approx(60, abs=5))


def test_a_refused_client_stops_asking_until_it_shows_other_credentials(
    open_enricher: Open, simulator: Simulator, few_logs: list[str]
) -> None:
    """403: every lookup says why and the next run does not even try, until the contact address changes."""
    simulator.set_fault("dshield", Fault(kind="reply", status=403, body="{}"))
    report = open_enricher().run(DAY).as_dict()
    assert report["lookups"]["dshield"] == {"auth_failed": len(few_logs)}
    sent = len(simulator.requests("dshield"))
    assert sent <= 8  # one per worker that was already sending
    simulator.set_fault("dshield")
    assert open_enricher().run(DAY).as_dict()["lookups"] == report["lookups"]
    assert len(simulator.requests("dshield")) == sent
    mended = open_enricher(DSHIELD_EMAIL="other@example.org").run(DAY).as_dict()
    assert mended["coverage"]["dshield"] == 1.0


@pytest.mark.sampled
def test_an_expired_answer_is_served_stale_when_the_service_is_down(
    open_enricher: Open, simulator: Simulator
) -> None:
    """stale-if-error: the old answer stays in the rows, marked as stale."""
    enricher = open_enricher()
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE enrichment_cache SET expires_at = '2025-12-01 00:00:00+00:00'"))
        connection.execute(text("UPDATE lookups SET valid_until = '2025-12-01 00:00:00+00:00'"))
    simulator.set_fault("dshield", Fault(kind="reply", status=403, body="{}"))
    later = open_enricher()
    later.run(SAMPLE_DAYS)
    stale = [row for row in rows(later, EnrichedSession.__table__) if row[-2].get("dshield", {}).get("stale")]
    assert len(stale) > 1000


@pytest.mark.sampled
def test_a_purged_answer_is_asked_again(open_enricher: Open, simulator: Simulator) -> None:
    """The queue does not insist on an answer that the cache no longer has."""
    enricher = open_enricher()
    with enricher.database.read() as connection:
        key = connection.execute(select(EnrichmentCache.cache_key).limit(1)).scalar_one()
    assert enricher.purge("dshield", [key])["database"] == 1
    report = open_enricher().run(SAMPLE_DAYS).as_dict()
    assert report["api_calls"] == {"dshield": 1}
    assert simulator.calls_per_key("dshield") == {key: 1}
    assert report["status"] == "complete"


@pytest.mark.sampled
def test_deleting_old_logs_keeps_what_they_said(
    open_enricher: Open, sample_logs: Path, tmp_path: Path
) -> None:
    """A day without any log file keeps its rows; a day whose file changed is replaced."""
    logs = tmp_path / "logs"
    shutil.copytree(sample_logs, logs)
    enricher = open_enricher(COWRIE_LOG_DIR=str(logs))
    for file in logs.rglob("cowrie.json.2025-11-0[1234]*"):
        file.unlink()
    assert enricher.ingest(SAMPLE_DAYS).kept_days == list(SAMPLE_DAYS)
    assert sum(sessions_by_day(enricher.database, SAMPLE_DAYS).values()) == 1400


def test_own_addresses_are_never_sent_out(
    open_enricher: Open, simulator: Simulator, environment: dict[str, str], tmp_path: Path
) -> None:
    """Networks of ours are out of scope whatever they look like."""
    others = [*routable_ips(3), "2606:4700:4700::1111"]
    ours = ["2001:470:1:332::1", "2001:470:ffff::2"]
    environment["COWRIE_LOG_DIR"] = str(write_logs(tmp_path / "logs", [*others, *ours]))
    report = open_enricher(ENRICH_OWN_NETWORKS="2001:470::/32").run(DAY).as_dict()
    assert report["lookups"]["dshield"]["skipped_policy"] == len(ours)
    assert simulator.calls_per_key("dshield") == dict.fromkeys(others, 1)


def test_unusable_lines_are_kept_with_file_line_and_reason(
    open_enricher: Open, environment: dict[str, str], tmp_path: Path
) -> None:
    """They fail no run, are counted, and are there once however often a day is run; mended, they are gone."""
    log = write_logs(tmp_path / "logs", routable_ips(2)) / "cowrie.json"
    environment["COWRIE_LOG_DIR"] = str(log.parent)
    first, *rest = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + b"%% \xff not JSON\n" + b"".join(rest) + b"\0\0\n")
    enricher = open_enricher()

    def quarantine() -> list[tuple[Any, ...]]:
        with enricher.database.read() as connection:
            query = text("SELECT path, line, byte_offset, reason FROM quarantined_lines ORDER BY line")
            return [tuple(row) for row in connection.execute(query)]

    for _ in range(2):
        report = enricher.run(Days.parse("2025-11-01")).as_dict()
        assert (report["sessions"], report["quarantined"]) == (2, 2)
        assert [row[:2] for row in quarantine()] == [("cowrie.json", 2), ("cowrie.json", 6)]
        assert quarantine()[1][2:] == (log.stat().st_size - 3, "nothing but NUL bytes")
    log.write_bytes(first + b"".join(rest))
    assert enricher.run(Days.parse("2025-11-01")).as_dict()["quarantined"] == 0
    assert quarantine() == []


def test_plan_spends_nothing_and_tells_what_a_run_will_ask(open_enricher: Open, simulator: Simulator) -> None:
    """Calls and time are known before anything is sent."""
    enricher = open_enricher(DSHIELD_RATE_LIMIT="1")
    enricher.ingest(SAMPLE_DAYS)
    enricher.summarise_addresses(SAMPLE_DAYS)
    plan = enricher.plan(SAMPLE_DAYS).services["dshield"]
    assert (plan.keys, plan.wanted) == (178, 174)
    assert plan.eta_s == pytest.approx(174, rel=0.03)
    assert simulator.requests("dshield") == []


def test_a_run_needs_a_log_folder_and_a_current_schema(open_enricher: Open, few_logs: list[str]) -> None:
    """Errors name the setting or the command that mends them."""
    with pytest.raises(ConfigError, match="COWRIE_LOG_DIR"):
        open_enricher(COWRIE_LOG_DIR="").run(DAY)
    enricher = open_enricher()
    downgrade(enricher.database, "v11")
    if enricher.database.is_sqlite:  # a file is brought up to date, with a copy of it beside it
        assert open_enricher().run(DAY).sessions == 3 * len(few_logs)
        assert Path(f"{enricher.database.url.database}.v11.bak").is_file()
        return
    with pytest.raises(SchemaOutdated, match="cowrie-enrich db upgrade"):
        open_enricher()


@pytest.mark.sampled
def test_what_was_known_at_the_time_stays_when_a_newer_answer_comes(open_enricher: Open) -> None:
    """Sessions keep the answer that was known when they ended; later answers serve later sessions."""
    enricher = open_enricher()
    with enricher.database.write() as connection:  # as if the answers had come in at noon of the second day
        connection.execute(
            text("UPDATE enrichment_cache SET fetched_at = '2025-11-02 12:00:00.000000+00:00'")
        )
    key = max(rows(enricher, SessionIp.__table__), key=lambda row: row[2])[1]
    old = enricher.cache.database.get("dshield", key)
    enricher.queue.reopen("dshield", [key])
    enricher.fetch("dshield", [Wanted(key)])
    enricher.enrich(SAMPLE_DAYS)
    table = EnrichedSession.__table__
    with enricher.database.read() as connection:
        query = select(table.c.knowledge, table.c.intel, table.c.event_end).where(table.c.source_ip == key)
        told = [(row.event_end, row.knowledge, row.intel["dshield"]) for row in connection.execute(query)]
    assert old is not None
    assert {answer["fetched_at"] for _, _, answer in told} == {"2025-11-02T12:00:00Z"}
    assert {knowledge for end, knowledge, _ in told if end < old.fetched_at} <= {
        "0 days after",
        "1 days after",
    }
    assert {knowledge for end, knowledge, _ in told if end > old.fetched_at} <= {"before", "during"}
    assert {answer["stale"] for _, _, answer in told} == {True}


@pytest.mark.sampled
def test_cleaning_the_cache_forgets_nothing_that_was_known(open_enricher: Open) -> None:
    """Expired answers leave the cache; the rows they explain are the same when they are made again."""
    enricher = open_enricher()
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE enrichment_cache SET expires_at = fetched_at"))
    assert enricher.cleanup(dry_run=True) == enricher.cleanup() == {"dshield": 174}
    assert rows(enricher, EnrichmentCache.__table__) == []
    report = enricher.enrich(SAMPLE_DAYS)
    assert report.coverage("dshield") == 1.0
