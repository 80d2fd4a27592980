"""When sensors ask for runs, and when they keep still."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    SensorDefinition,
    build_sensor_context,
)
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.defs.resources import resources
from cowrie_enrich_dagster.enrichment.enricher import Enricher
from cowrie_enrich_dagster.simulator import Fault, Simulator
from tests.dagster.conftest import Materialise

FIRST_LOG = "hp-sensor-a/cowrie.json.2025-11-01.gz"


def tick(instance: DagsterInstance, name: str, cursor: str | None = None) -> SensorExecutionData:
    repository = defs.get_repository_def()
    sensor: SensorDefinition = repository.get_sensor_def(name)
    with build_sensor_context(
        instance=instance, cursor=cursor, repository_def=repository, resources=resources
    ) as context:
        return sensor.evaluate_tick(context)


def look(instance: DagsterInstance, cursor: str | None = None) -> SensorExecutionData:
    return tick(instance, "new_log_files", cursor)


def ranges(found: SensorExecutionData) -> list[tuple[str, str]]:
    return [
        (
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in found.run_requests or []
    ]


def line(moment: str, session: str = "0123456789ab") -> bytes:
    event = {
        "eventid": "cowrie.session.connect",
        "timestamp": moment,
        "session": session,
        "src_ip": "198.51.100.7",
        "sensor": "hp-sensor-a",
        "protocol": "ssh",
    }
    return json.dumps(event).encode() + b"\n"


def test_the_first_tick_asks_for_the_days_in_the_logs_as_one_run(instance: DagsterInstance) -> None:
    """Four neighbouring days (the last holds ends of sessions only) are one request."""
    found = look(instance)
    assert ranges(found) == [("2025-11-01", "2025-11-04")]
    assert found.cursor is not None
    assert sorted(json.loads(found.cursor)) == [f"2025-11-0{day}" for day in (1, 2, 3, 4)]


def test_the_cursor_makes_the_second_tick_skip(instance: DagsterInstance) -> None:
    """Nothing new: no run, the cursor stays, and a reason is given."""
    cursor = look(instance).cursor
    again = look(instance, cursor)
    assert ranges(again) == []
    assert again.skip_message == "no log file is new or has grown"
    assert again.cursor in (None, cursor)


def test_the_request_is_a_run_of_the_job(instance: DagsterInstance, simulator: Simulator) -> None:
    """What the sensor asks for is executed as it stands, and fills the partitions."""
    request = (look(instance).run_requests or [])[0]
    job = defs.resolve_job_def("enrich_day")
    assert job.execute_in_process(instance=instance, tags=dict(request.tags)).success
    assert len(simulator.requests("dshield")) == 174


def test_a_grown_file_asks_for_its_days_and_the_day_before(instance: DagsterInstance, logs: Path) -> None:
    """Of a file with two days only the one that grew is asked for, and the day before it, if there is one."""
    live = logs / "hp-sensor-a" / "cowrie.json"
    live.write_bytes(line("2025-12-01T10:00:00.000000Z") + line("2025-12-02T10:00:00.000000Z"))
    cursor = look(instance).cursor
    with live.open("ab") as file:
        file.write(line("2025-12-02T11:00:00.000000Z", "0123456789ac"))
    assert ranges(look(instance, cursor)) == [("2025-12-01", "2025-12-02")]


def test_a_new_day_without_a_day_before_is_asked_for_alone(instance: DagsterInstance, logs: Path) -> None:
    """Days that no log has are not asked for."""
    cursor = look(instance).cursor
    (logs / "hp-sensor-a" / "cowrie.json").write_bytes(line("2025-12-05T10:00:00.000000Z"))
    assert ranges(look(instance, cursor)) == [("2025-12-05", "2025-12-05")]


def test_a_late_upload_asks_for_its_own_days(instance: DagsterInstance, logs: Path, tmp_path: Path) -> None:
    """A file that comes weeks later costs its days (and the day before), not everything since."""
    late = logs / FIRST_LOG.replace("-01.gz", "-02.gz")
    kept = late.rename(tmp_path / "kept.gz")
    cursor = look(instance).cursor
    kept.rename(late)
    asked = ranges(look(instance, cursor))
    assert asked == [("2025-11-01", asked[0][1])]
    assert asked[0][1] in (
        "2025-11-02",
        "2025-11-03",
    )  # the file ends with the next day's first lines, or not


@pytest.mark.parametrize("change", ["rename", "unpack", "recompress"])
def test_rotation_and_compression_ask_for_nothing(instance: DagsterInstance, logs: Path, change: str) -> None:
    """The same events under another name or packing are nothing new."""
    cursor = look(instance).cursor
    old = logs / FIRST_LOG
    content = gzip.decompress(old.read_bytes())
    if change == "rename":
        old.rename(old.with_name("cowrie.json.2025-11-01-1.gz"))
    elif change == "unpack":
        old.with_name("cowrie.json.2025-11-01").write_bytes(content)
        old.unlink()
    else:
        old.write_bytes(gzip.compress(content, compresslevel=1))
    assert ranges(look(instance, cursor)) == []


def test_a_rotated_live_file_asks_only_for_what_is_new(instance: DagsterInstance, logs: Path) -> None:
    """`cowrie.json` becomes `cowrie.json.<day>` at midnight; only the new day's lines count."""
    live = logs / "hp-sensor-a" / "cowrie.json"
    live.write_bytes(line("2025-12-01T10:00:00.000000Z"))
    cursor = look(instance).cursor
    live.rename(live.with_name("cowrie.json.2025-12-01"))
    live.write_bytes(line("2025-12-03T00:00:01.000000Z", "0123456789ac"))
    assert ranges(look(instance, cursor)) == [("2025-12-03", "2025-12-03")]


@pytest.mark.parametrize("day", ["2024-12-31", "2099-01-01", "1970-01-01"])
def test_days_outside_the_partitions_are_ignored(instance: DagsterInstance, logs: Path, day: str) -> None:
    """Before ENRICH_START_DAY (2025-01-01) or in the future: no run could be asked for."""
    cursor = look(instance).cursor
    (logs / "hp-sensor-a" / "cowrie.json").write_bytes(line(f"{day}T10:00:00.000000Z"))
    assert ranges(look(instance, cursor)) == []


def test_days_far_apart_are_separate_runs_of_bounded_size(instance: DagsterInstance, logs: Path) -> None:
    """A gap parts two requests, and none is longer than 31 days."""
    start = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    days = [start + timedelta(days=number) for number in range(40)]
    body = b"".join(line(f"{day:%Y-%m-%dT%H:%M:%S}.000000Z") for day in days)
    (logs / "hp-sensor-a" / "cowrie.json").write_bytes(body)
    assert ranges(look(instance)) == [
        ("2025-11-01", "2025-11-04"),
        ("2026-01-01", "2026-01-31"),
        ("2026-02-01", "2026-02-09"),
    ]


def test_equal_logs_give_equal_run_keys_and_grown_ones_others(instance: DagsterInstance, logs: Path) -> None:
    """A tick that is repeated before its cursor is saved cannot start the run twice; growth can."""

    def key() -> Any:
        return (look(instance).run_requests or [])[0].run_key

    first = key()
    assert key() == first
    with gzip.open(logs / FIRST_LOG, "ab") as file:
        file.write(line("2025-11-01T23:59:59.000000Z"))
    assert key() != first


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_nothing_is_asked_for_while_a_run_is_unfinished(
    instance: DagsterInstance, status: DagsterRunStatus
) -> None:
    """No pile-up: the cursor stays, and what grew is asked for after the run."""
    create_run_for_test(instance, job_name="enrich_day", status=status)
    found = look(instance)
    assert ranges(found) == []
    assert found.cursor is None
    assert "is not finished" in str(found.skip_message)


def test_a_finished_run_is_in_nobodys_way(instance: DagsterInstance) -> None:
    """Success and failure both end the wait."""
    create_run_for_test(instance, job_name="enrich_day", status=DagsterRunStatus.SUCCESS)
    create_run_for_test(instance, job_name="enrich_day", status=DagsterRunStatus.FAILURE)
    assert len(ranges(look(instance))) == 1


def defer_everything(enricher: Enricher, materialise: Materialise, simulator: Simulator) -> None:
    """One day whose lookups all failed; the service is mended afterwards."""
    simulator.set_fault("dshield", Fault(kind="html"))
    materialise("2025-11-01")
    simulator.set_fault("dshield")


def make_due(enricher: Enricher) -> None:
    """As if the time that the lookups were put off for had passed."""
    with enricher.database.write() as connection:
        connection.execute(
            text(
                "UPDATE lookups SET next_attempt_at = '2025-12-01 00:00:00+00:00' "
                "WHERE next_attempt_at IS NOT NULL"
            )
        )


def test_an_empty_queue_needs_no_drain(instance: DagsterInstance) -> None:
    """The reason says so."""
    assert tick(instance, "due_lookups").skip_message == "no lookup is pending"


def test_a_drain_waits_until_lookups_are_due(
    instance: DagsterInstance, materialise: Materialise, enricher: Enricher, simulator: Simulator
) -> None:
    """Put-off lookups: a skip that names the time; due ones: one request."""
    defer_everything(enricher, materialise, simulator)
    assert "nothing is due before 20" in str(tick(instance, "due_lookups").skip_message)
    make_due(enricher)
    requests = tick(instance, "due_lookups").run_requests
    assert [type(request) for request in requests or []] == [RunRequest]


@pytest.mark.parametrize("job", ["drain_lookups", "enrich_day", "__ASSET_JOB"])
def test_one_drain_at_a_time_and_none_beside_an_enrichment(
    instance: DagsterInstance, materialise: Materialise, enricher: Enricher, simulator: Simulator, job: str
) -> None:
    """A drain, a run of the job or a backfill from the UI already works on the queue."""
    defer_everything(enricher, materialise, simulator)
    make_due(enricher)
    create_run_for_test(instance, job_name=job, status=DagsterRunStatus.STARTED)
    assert "is not finished" in str(tick(instance, "due_lookups").skip_message)


def test_lookups_of_a_service_that_was_switched_off_start_no_drain(
    instance: DagsterInstance, enricher: Enricher
) -> None:
    """Nobody would ask them, so a drain every minute would do nothing."""
    enricher.queue.open("greynoise", {"198.51.100.7": 1})
    assert tick(instance, "due_lookups").skip_message == "no lookup is pending"
