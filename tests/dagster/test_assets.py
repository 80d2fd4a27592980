"""The assets as an operator sees them: one run, filled partitions, metadata, checks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    ExecuteInProcessResult,
)
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.simulator import Fault, Limit, Simulator, TokenBucket
from cowrie_enrich_dagster.vocabulary import Days
from tests.dagster.conftest import Materialise

SAMPLE_DAYS = ["2025-11-01", "2025-11-02", "2025-11-03"]
ASSETS = ["cowrie_sessions", "session_ips", "enrichment_cache", "enriched_sessions", "campaigns"]
SUMMARISE = "enrichment_cache.summarise"
RETRY = DagsterEventType.STEP_UP_FOR_RETRY


def checks(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def figures(result: ExecuteInProcessResult, asset: str) -> Mapping[str, Any]:
    metadata = result.asset_materializations_for_node(SUMMARISE if asset == "enrichment_cache" else asset)[
        0
    ].metadata
    return {name: value.value for name, value in metadata.items()}


def test_the_three_sample_days_are_one_run(
    materialise: Materialise, instance: DagsterInstance, simulator: Simulator
) -> None:
    """One run asks each of the 174 addresses once, fills every partition and passes every check.

    Rows, calls, coverage, hits by tier, quota and tables are in the metadata.
    """
    result = materialise(SAMPLE_DAYS[0], SAMPLE_DAYS[-1])
    assert result.success
    assert len(simulator.requests("dshield")) == 174
    assert instance.get_runs_count() == 1
    for asset in ASSETS:
        assert instance.get_materialized_partitions(AssetKey(asset)) == set(SAMPLE_DAYS), asset
    # The sample is of 2025, which is what that check is for.
    assert [name for name, check in checks(result).items() if not check.passed] == ["newest_session"]
    read = figures(result, "cowrie_sessions")
    assert (read["run_sessions"], read["run_events"], read["run_lines_quarantined"]) == (1400, 8248, 0)
    addresses = figures(result, "session_ips")
    assert addresses["run_addresses"] == 178
    asked = figures(result, "enrichment_cache")
    assert (asked["run_api_calls"], asked["run_pending"], asked["run_status"]) == (174, 0, "complete")
    assert asked["run_quota"].splitlines()[0] == "| service | requests a second | limited so far | backlog |"
    assert "| dshield |" in asked["run_quota"]
    enriched = figures(result, "enriched_sessions")
    assert enriched["run_sessions"] == 1400
    assert "| dshield | 100.0% |" in enriched["run_coverage"]
    assert "| database | 174 |" in enriched["run_hits"]
    assert len(enriched["run_top_networks"].splitlines()) == 12
    assert figures(result, "campaigns")["run_sessions_with_new_artefacts"] == 140
    for asset in ASSETS:  # what is the same in every run stands with the asset: Dagster keeps each run twice
        of_the_asset = defs.resolve_asset_graph().get(AssetKey(asset)).metadata
        assert not of_the_asset.keys() & figures(result, asset).keys(), asset


def test_each_partition_has_its_own_figures(materialise: Materialise, enricher: Enricher) -> None:
    """A run over many days claims for each of them what is that day's, and names what is the run's."""
    materialise(SAMPLE_DAYS[0])
    result = materialise("2025-10-31", SAMPLE_DAYS[-1])
    sessions = {
        day: sum(sessions_by_day(enricher.database, Days.parse(day)).values())
        for day in ["2025-10-31", *SAMPLE_DAYS]
    }
    assert list(sessions.values()) == [0, 447, 478, 475]
    told = {
        asset: {
            str(event.partition): {name: value.value for name, value in event.metadata.items()}
            for event in result.asset_materializations_for_node(node)
        }
        for asset, node in {**{name: name for name in ASSETS}, "enrichment_cache": SUMMARISE}.items()
    }
    for asset, by_day in told.items():
        assert {day: figures["sessions"] for day, figures in by_day.items()} == sessions, asset
        for names in map(list, by_day.values()):  # those of the day are what a reader sees first
            assert names[0] == "dagster/row_count"
            assert names == sorted(names, key=lambda name: name.startswith(("run_", "dagster/column_")))
    rows = {day: figures["dagster/row_count"] for day, figures in told["enriched_sessions"].items()}
    assert rows == sessions
    cache = told["enrichment_cache"]
    assert {
        day: figures["coverage_dshield"] for day, figures in cache.items() if sessions[day]
    } == dict.fromkeys(SAMPLE_DAYS, 1.0)
    # The first day was known whole, of the others what had been seen on it; none of it was lost.
    assert cache[SAMPLE_DAYS[0]]["cache_expected"] == cache[SAMPLE_DAYS[0]]["dagster/row_count"] > 40
    assert 0 < cache[SAMPLE_DAYS[1]]["cache_expected"] < cache[SAMPLE_DAYS[1]]["dagster/row_count"]
    assert {figures.get("cache_hit_rate") for day, figures in cache.items()} == {None, 1.0}
    enriched = told["enriched_sessions"]
    assert "coverage_dshield" not in enriched["2025-10-31"]
    assert enriched[SAMPLE_DAYS[1]]["coverage_dshield"] == 1.0
    assert enriched[SAMPLE_DAYS[1]]["run_sessions"] == 1400
    campaigns = [told["campaigns"][day] for day in ["2025-10-31", *SAMPLE_DAYS]]
    assert campaigns[0]["campaigns"] == campaigns[0]["sessions_in_campaigns"] == 0
    assert sum(of_day["sessions_in_campaigns"] for of_day in campaigns) == 139
    assert sum(of_day["new_campaigns"] for of_day in campaigns) == 14
    assert "host&#58; 203.0.113.77" in campaigns[1]["largest"]


@pytest.mark.sampled
def test_a_sample_of_rows_shows_no_password(materialise: Materialise, logs: Path, enricher: Enricher) -> None:
    """Neither what was typed as a password nor as a user name is in what Dagster keeps of a run."""
    result = materialise(SAMPLE_DAYS[0])
    with enricher.database.read() as connection:
        typed = connection.execute(text("SELECT password, username FROM sessions")).all()
    secrets = {word for row in typed for word in row if word and len(word) > 5 and not word.isdigit()}
    assert len(secrets) > 5
    samples = [
        event.metadata["sample"].value
        for node in ("cowrie_sessions", "session_ips", SUMMARISE, "enriched_sessions")
        for event in result.asset_materializations_for_node(node)
    ]
    assert len(samples) == 4
    for shown in samples:
        assert len(shown.splitlines()) == 7
        assert not [word for word in secrets if word in shown]


def test_one_day_fills_its_own_partition_only(
    materialise: Materialise, instance: DagsterInstance, enricher: Enricher
) -> None:
    """A single day is a run like any other, and leaves the others alone."""
    assert materialise("2025-11-02").success
    for asset in ASSETS:
        assert instance.get_materialized_partitions(AssetKey(asset)) == {"2025-11-02"}
    with enricher.database.read() as connection:
        days = connection.execute(text("SELECT DISTINCT day FROM enriched_sessions")).scalars().all()
    assert days == ["2025-11-02"]


@pytest.mark.sampled
def test_a_second_run_asks_nothing(materialise: Materialise, simulator: Simulator) -> None:
    """What is known is not asked again, nor has its service a step; the metadata says which tier had it."""
    result = materialise(SAMPLE_DAYS[0], SAMPLE_DAYS[-1])
    again = figures(result, "enrichment_cache")
    steps = {event.step_key for event in result.all_events if event.is_step_start}
    assert {step for step in steps if step.startswith("enrichment_cache.")} == {
        "enrichment_cache.plan",
        "enrichment_cache.summarise",
    }
    assert again["run_api_calls"] == 0
    assert "| database | 174 |" in again["run_hits"]
    assert simulator.requests("dshield") == []


@pytest.mark.usefixtures("few_logs")
def test_a_broken_service_leaves_the_run_green_and_a_warning(
    materialise: Materialise, simulator: Simulator
) -> None:
    """Rows are written, `coverage` and `answers_valid` fail as warnings, nothing counts as clean."""
    simulator.set_fault("dshield", Fault(kind="html"))
    result = materialise("2025-11-01")
    assert result.success
    failed = {name: check.severity for name, check in checks(result).items() if not check.passed}
    assert set(failed) == {"coverage", "answers_valid", "newest_session"}
    assert set(failed.values()) == {AssetCheckSeverity.WARN}
    assert checks(result)["every_session_has_its_row"].passed
    assert "| dshield | 0.0% |" in figures(result, "enriched_sessions")["run_coverage"]


def test_a_long_rate_limit_defers_and_does_not_fail(
    materialise: Materialise, simulator: Simulator, environment: pytest.MonkeyPatch
) -> None:
    """A wait beyond the run's patience ends the run partial and green: no lookup failed for the limit."""
    environment.setenv("ENRICH_MAX_WAIT_SECONDS", "1")
    simulator.set_limit("dshield", Limit(rules=(TokenBucket(per_minute=1, burst=20),), ban_s=3600))
    result = materialise("2025-11-01")
    assert result.success
    asked = figures(result, "enrichment_cache")
    assert asked["run_status"] == "partial"
    assert asked["run_pending"] > 0
    told = checks(result)["coverage"].metadata
    assert 0 < told["deferred_dshield"].value < 1
    assert told["dshield"].value > 0.8
    assert checks(result)["every_session_has_its_row"].passed
    assert {check.severity for check in checks(result).values() if not check.passed} == {
        AssetCheckSeverity.WARN
    }


@pytest.mark.usefixtures("few_logs")
def test_redis_is_watched_when_it_is_on(
    materialise: Materialise, environment: pytest.MonkeyPatch, redis_port: int
) -> None:
    """L1 answers the enrichment step; how long a key takes is told, and a millisecond is too long."""
    environment.setenv("ENABLE_REDIS_CACHE", "true")
    environment.setenv("REDIS_PORT", str(redis_port))
    result = materialise("2025-11-01")
    seen = checks(result)
    assert seen["l1_reachable"].passed
    p50_ms = seen["l1_latency"].metadata["p50_ms"].value
    assert 0 < p50_ms < 1000
    assert seen["l1_latency"].passed is (p50_ms < 1)
    assert "| redis | 0 |" not in figures(result, "enriched_sessions")["run_hits"]


@pytest.mark.usefixtures("few_logs")
def test_a_dead_redis_is_a_warning_not_a_failure(
    materialise: Materialise, environment: pytest.MonkeyPatch
) -> None:
    """The run goes on without L1, and the check says that it is away."""
    environment.setenv("ENABLE_REDIS_CACHE", "true")
    environment.setenv("REDIS_PORT", "1")
    result = materialise("2025-11-01")
    assert result.success
    check = checks(result)["l1_reachable"]
    assert not check.passed
    assert check.severity is AssetCheckSeverity.WARN
    assert checks(result)["coverage"].passed


def test_a_hostile_organization_name_stays_in_its_cell(
    materialise: Materialise, simulator: Simulator, few_logs: list[str]
) -> None:
    """What a registry says about an attacker's network cannot draw on the operator's page."""
    hostile = "x|y</td><script>alert(1)</script>\n# [a](javascript:b) ![i](http://evil.example/i.png)"
    answer = {"ip": {"number": few_logs[0], "count": 1, "attacks": 1, "as": 64496, "asname": hostile}}
    simulator.set_fault("dshield", Fault(kind="reply", status=200, body=json.dumps(answer), key=few_logs[0]))
    networks = figures(materialise("2025-11-01"), "enriched_sessions")["run_top_networks"]
    rows = [row for row in networks.splitlines() if row.startswith("| 64496 |")]
    assert len(rows) == 1
    assert rows[0].count("|") == 4
    assert not set("<>[]()!`*") & set(rows[0])


@pytest.mark.usefixtures("few_logs")
def test_a_step_is_tried_again_after_a_passing_fault(
    materialise: Materialise, instance: DagsterInstance, enricher: Enricher
) -> None:
    """A table that is away for a moment costs a retry of one step, not the run."""

    def rename(old: str, new: str) -> None:
        with enricher.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    def mend_after_the_first_failure() -> None:
        while not instance.get_records_for_run(_only_run(instance), of_type=RETRY).records:
            time.sleep(0.05)
        rename("away", "session_ips")

    rename("session_ips", "away")
    mender = Thread(target=mend_after_the_first_failure, daemon=True)
    mender.start()
    result = materialise("2025-11-01")
    mender.join(10)
    assert result.success
    retried = [event.step_key for event in result.all_events if event.event_type is RETRY]
    assert retried == ["session_ips"]


def _only_run(instance: DagsterInstance) -> str:
    return next((run.run_id for run in instance.get_runs()), "none yet")


def test_a_wrong_setting_fails_at_once_and_names_itself(
    materialise: Materialise, environment: pytest.MonkeyPatch
) -> None:
    """What only the operator can mend is not retried."""
    environment.setenv("COWRIE_LOG_DIR", "/nowhere")
    result = materialise("2025-11-01", succeed=False)
    assert not result.success
    assert not [event for event in result.all_events if event.event_type is RETRY]
    failure = result.failure_data_for_node("cowrie_sessions")
    assert failure is not None
    assert failure.error is not None
    assert "COWRIE_LOG_DIR names /nowhere" in failure.error.message
