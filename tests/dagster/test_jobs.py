"""The upkeep jobs, and the schedules that run them."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, DefaultScheduleStatus, ExecuteInProcessResult
from dagster import build_schedule_context as schedule_context
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.simulator import Simulator
from tests.dagster.conftest import Materialise
from tests.dagster.test_sensors import defer_everything, make_due

NEW_YEAR = datetime(2026, 1, 1, tzinfo=timezone.utc)


def run(instance: DagsterInstance, job: str, **config: Any) -> ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config={"ops": {op: {"config": values} for op, values in config.items()}}
    )


def figures(result: ExecuteInProcessResult) -> dict[str, Any]:
    outputs = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in outputs[0].step_output_data.metadata.items()}


def count(enricher: Enricher, query: str) -> int:
    with enricher.database.read() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_a_drain_completes_the_days_that_waited(
    instance: DagsterInstance, materialise: Materialise, enricher: Enricher, simulator: Simulator
) -> None:
    """Deferred lookups are asked, and exactly the days they belong to are materialised again."""
    materialise("2025-11-03")
    defer_everything(enricher, materialise, simulator)
    make_due(enricher)
    asked = len(simulator.requests("dshield"))
    missing = count(enricher, "SELECT count(*) FROM lookups WHERE next_attempt_at IS NOT NULL")
    assert missing > 40
    result = run(instance, "drain_lookups")
    assert result.success
    assert len(simulator.requests("dshield")) - asked == missing
    assert figures(result)["days"] == ["2025-11-01"]
    latest = instance.get_latest_materialization_event(AssetKey("enriched_sessions"))
    assert latest is not None
    assert latest.run_id == result.run_id
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.partition == "2025-11-01"
    sessions = count(enricher, "SELECT count(*) FROM sessions WHERE day = '2025-11-01'")
    assert latest.asset_materialization.metadata["dagster/row_count"].value == sessions
    unknown = "SELECT count(*) FROM enriched_sessions WHERE knowledge = 'unknown' AND source_scope = 'global'"
    assert count(enricher, unknown) == 0


def test_a_drain_of_nothing_materialises_nothing(instance: DagsterInstance, simulator: Simulator) -> None:
    """Green, no call, no day."""
    result = run(instance, "drain_lookups")
    assert result.success
    assert figures(result)["days"] == []
    assert instance.get_latest_materialization_event(AssetKey("enriched_sessions")) is None
    assert simulator.requests("dshield") == []


def expire(enricher: Enricher, number: int) -> None:
    with enricher.database.write() as connection:
        connection.execute(
            text(
                "UPDATE enrichment_cache SET expires_at = '2025-12-01 00:00:00+00:00' WHERE id IN "
                "(SELECT id FROM enrichment_cache ORDER BY id LIMIT :number)"
            ),
            {"number": number},
        )


def test_a_refresh_asks_about_active_addresses_before_their_answers_expire(
    instance: DagsterInstance, materialise: Materialise, enricher: Enricher, simulator: Simulator
) -> None:
    """Only answers that (nearly) expired, and only of addresses seen within the days configured."""
    materialise("2025-11-01")
    asked = len(simulator.requests("dshield"))
    expire(enricher, 7)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    expiring = count(enricher, f"SELECT count(*) FROM enrichment_cache WHERE expires_at < '{tomorrow}'")
    assert 7 <= expiring < asked / 2
    assert run(instance, "refresh_stale", refresh={"active_days": 7}).success
    assert len(simulator.requests("dshield")) == asked
    days = (datetime.now(timezone.utc) - datetime(2025, 11, 1, tzinfo=timezone.utc)).days + 1
    assert run(instance, "refresh_stale", refresh={"active_days": days}).success
    assert len(simulator.requests("dshield")) == asked + expiring
    assert count(enricher, "SELECT count(*) FROM enrichment_cache WHERE expires_at < '2026-01-01'") == 0


@pytest.mark.sampled
def test_cleanup_counts_first_and_deletes_when_told(
    instance: DagsterInstance, materialise: Materialise, enricher: Enricher
) -> None:
    """A dry run changes nothing and says what the real one does."""
    materialise("2025-11-01")
    expire(enricher, 7)
    before = count(enricher, "SELECT count(*) FROM enrichment_cache")
    assert figures(run(instance, "cleanup_cache", cleanup={"dry_run": True}))["expired"] == 7
    assert count(enricher, "SELECT count(*) FROM enrichment_cache") == before
    assert figures(run(instance, "cleanup_cache"))["expired"] == 7
    assert count(enricher, "SELECT count(*) FROM enrichment_cache") == before - 7


def test_an_old_file_cache_is_imported_and_not_asked_again(
    instance: DagsterInstance,
    materialise: Materialise,
    enricher: Enricher,
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    """One answer in a file is one call less."""
    ip = "3.215.22.132"
    folder = tmp_path / "old" / "dshield" / "3" / "215" / "22"
    folder.mkdir(parents=True)
    (folder / "132.json").write_text(json.dumps({"ip": {"number": ip, "count": 5, "as": 64496}}))
    assert run(instance, "import_filesystem_cache", import_files={"folder": str(tmp_path / "old")}).success
    assert count(enricher, "SELECT count(*) FROM enrichment_cache") == 1
    materialise("2025-11-02")
    assert ip not in {record.keys[0] for record in simulator.requests("dshield")}


@pytest.mark.sampled
def test_old_days_are_counted_first_and_go_when_told(
    instance: DagsterInstance,
    materialise: Materialise,
    enricher: Enricher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Started by hand the job only counts; without the setting there is nothing to count."""
    materialise("2025-11-01", "2025-11-03")
    assert figures(run(instance, "forget_old_days", forget={"dry_run": False}))["sessions"] == 0
    kept = (datetime.now(timezone.utc).date() - date(2025, 11, 3)).days
    monkeypatch.setenv("ENRICH_KEEP_DAYS", str(kept))
    old = count(enricher, "SELECT count(*) FROM sessions WHERE day < '2025-11-03'")
    counted = figures(run(instance, "forget_old_days"))
    assert (counted["dry_run"], counted["sessions"], counted["keep_from"]) == (True, old, "2025-11-03")
    assert count(enricher, "SELECT count(*) FROM sessions WHERE day < '2025-11-03'") == old > 0
    assert figures(run(instance, "forget_old_days", forget={"dry_run": False}))["sessions"] == old
    assert count(enricher, "SELECT count(*) FROM sessions WHERE day < '2025-11-03'") == 0
    assert count(enricher, "SELECT count(*) FROM sessions WHERE day = '2025-11-03'") > 0


def test_the_schedule_forgets_only_where_it_was_said_how_long_to_keep(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its run deletes, unlike one started by hand."""

    def tick() -> Any:
        return defs.resolve_schedule_def("daily_forgetting").evaluate_tick(
            schedule_context(instance=instance, scheduled_execution_time=NEW_YEAR)
        )

    assert tick().skip_message == "ENRICH_KEEP_DAYS is not set: every day is kept"
    monkeypatch.setenv("ENRICH_KEEP_DAYS", "365")
    (request,) = tick().run_requests
    assert request.run_config["ops"] == {"forget": {"config": {"dry_run": False}}}
    assert (
        defs.resolve_job_def("forget_old_days")
        .execute_in_process(instance=instance, run_config=request.run_config)
        .success
    )


@pytest.mark.parametrize(
    ("schedule", "job", "on"),
    [
        ("daily_refresh", "refresh_stale", True),
        ("daily_cleanup", "cleanup_cache", True),
        ("daily_pruning", "prune_history", True),
        ("hourly_drain", "drain_lookups", False),
    ],
)
def test_a_schedule_starts_its_job(schedule: str, job: str, on: bool, instance: DagsterInstance) -> None:
    """Each tick is one run request without configuration, which the job accepts."""
    definition = defs.resolve_schedule_def(schedule)
    assert definition.job_name == job
    assert (definition.default_status is DefaultScheduleStatus.RUNNING) is on
    tick = definition.evaluate_tick(
        schedule_context(
            instance=instance, scheduled_execution_time=datetime(2026, 1, 1, tzinfo=timezone.utc)
        )
    )
    assert len(tick.run_requests or []) == 1
    assert run(instance, job).success
