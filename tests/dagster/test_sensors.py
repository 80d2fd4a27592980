"""When sensors ask for runs, and when they keep still."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
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
from cowrie_enrich_dagster.defs import sensors
from cowrie_enrich_dagster.defs.new_days import Cursor
from cowrie_enrich_dagster.defs.resources import resources
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.simulator import Fault, Simulator
from tests.attacks import Attack, write_attacks
from tests.dagster.conftest import Materialise
from tests.logs import START, routable_ips

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
    assert sorted(Cursor.parse(found.cursor).recent) == [date(2025, 11, day) for day in (1, 2, 3, 4)]


def test_the_cursor_makes_the_second_tick_skip(instance: DagsterInstance) -> None:
    """Nothing new: no run, the cursor stays, and a reason is given."""
    cursor = look(instance).cursor
    again = look(instance, cursor)
    assert ranges(again) == []
    assert again.skip_message == "no log file is new or has grown"
    assert again.cursor in (None, cursor)


def test_the_request_is_a_run_of_the_job(
    instance: DagsterInstance, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """What the sensor asks for is executed as it stands, and fills the partitions."""
    ips = routable_ips(12)
    attacks = [Attack(f"{n:012}", ip, START + timedelta(days=n % 3)) for n, ip in enumerate(ips)]
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", attacks)))
    request = (look(instance).run_requests or [])[0]
    job = defs.resolve_job_def("enrich_day")
    assert job.execute_in_process(instance=instance, tags=dict(request.tags)).success
    assert simulator.calls_per_key("dshield") == dict.fromkeys(ips, 1)
    filled = instance.get_materialized_partitions(AssetKey("enriched_sessions"))
    assert filled == {"2025-11-01", "2025-11-02", "2025-11-03"}


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


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (["2024-12-31"], "the day 2024-12-31 in the logs is before ENRICH_START_DAY (2025-01-01): left out"),
        (
            ["1999-12-31", "2024-02-29", "2024-12-31"],
            "2 days in the logs, 2024-02-29 to 2024-12-31, are before ENRICH_START_DAY (2025-01-01): "
            "left out",
        ),
        (["2099-01-01"], "the day 2099-01-01 in the logs is still to come by this machine's clock: left out"),
    ],
)
def test_days_that_are_no_partitions_are_named(
    instance: DagsterInstance, logs: Path, days: list[str], said: str
) -> None:
    """Before ENRICH_START_DAY or in the future: no run can be asked for, and the tick says so."""
    cursor = look(instance).cursor
    (logs / "hp-sensor-a" / "cowrie.json").write_bytes(b"".join(line(f"{day}T10:00:00Z") for day in days))
    found = look(instance, cursor)
    assert ranges(found) == []
    assert found.skip_message == f"no log file is new or has grown; {said}"


def test_days_older_than_are_kept_are_named(
    instance: DagsterInstance, environment: pytest.MonkeyPatch
) -> None:
    """With ENRICH_KEEP_DAYS older days are not asked for; the first one kept is."""
    environment.setenv("ENRICH_KEEP_DAYS", "30")
    clock(environment, datetime(2025, 12, 3, 12, tzinfo=timezone.utc))
    found = look(instance)
    assert ranges(found) == [("2025-11-03", "2025-11-04")]
    assert look(instance, found.cursor).skip_message == (
        "no log file is new or has grown; 2 days in the logs, 2025-11-01 to 2025-11-02, are older than "
        "ENRICH_KEEP_DAYS (30) keeps: left out"
    )


def clock(environment: pytest.MonkeyPatch, now: datetime) -> None:
    environment.setattr(sensors, "utc_now", lambda: now)


def test_a_day_that_merely_grows_waits_and_the_tick_says_until_when(
    instance: DagsterInstance, logs: Path, environment: pytest.MonkeyPatch
) -> None:
    """A live log: its new lines are taken up a quarter of an hour after the last run was asked for."""
    noon = datetime(2025, 12, 1, 12, tzinfo=timezone.utc)
    live = logs / "hp-sensor-a" / "cowrie.json"
    live.write_bytes(b"".join(line("2025-12-01T11:00:00Z", f"{n:012x}") for n in range(50)))
    clock(environment, noon)
    first = look(instance)
    assert ranges(first)[-1] == ("2025-12-01", "2025-12-01")
    with live.open("ab") as file:
        file.write(line("2025-12-01T12:00:30Z"))
    clock(environment, noon + timedelta(minutes=1))
    waits = look(instance, first.cursor)
    assert ranges(waits) == []
    assert waits.skip_message == (
        "what was added to 2025-12-01 is enriched at 12:15 UTC or soon after (ENRICH_EVERY_MINUTES=15)"
    )
    clock(environment, noon + timedelta(minutes=15))
    assert ranges(look(instance, waits.cursor)) == [("2025-12-01", "2025-12-01")]


def test_a_second_run_of_the_same_marks_is_another_run(
    instance: DagsterInstance, logs: Path, environment: pytest.MonkeyPatch
) -> None:
    """The day before, asked for again when a day is over, has grown by nothing; its key is new."""
    live = logs / "hp-sensor-a" / "cowrie.json"
    live.write_bytes(line("2025-12-01T11:00:00Z") + line("2025-12-02T11:00:00Z"))
    clock(environment, datetime(2025, 12, 2, 12, tzinfo=timezone.utc))
    first = look(instance)
    clock(environment, datetime(2025, 12, 3, tzinfo=timezone.utc))
    second = look(instance, first.cursor)
    assert ranges(second) == [("2025-12-01", "2025-12-01")]
    keys = [request.run_key for found in (first, second) for request in found.run_requests or []]
    assert len(set(keys)) == len(keys)


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


def test_the_operator_can_ask_for_smaller_runs(
    instance: DagsterInstance, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENRICH_DAYS_PER_RUN binds the sensor as it does a backfill."""
    monkeypatch.setenv("ENRICH_DAYS_PER_RUN", "2")
    assert ranges(look(instance)) == [("2025-11-01", "2025-11-02"), ("2025-11-03", "2025-11-04")]


def test_equal_logs_give_equal_run_keys_and_grown_ones_others(instance: DagsterInstance, logs: Path) -> None:
    """A tick that is repeated before its cursor is saved cannot start the run twice; growth can."""

    def key() -> Any:
        return (look(instance).run_requests or [])[0].run_key

    first = key()
    assert key() == first
    with gzip.open(logs / FIRST_LOG, "ab") as file:
        file.write(line("2025-11-01T23:59:59.000000Z"))
    assert key() != first


def work_on(
    instance: DagsterInstance, first: str, last: str, status: DagsterRunStatus, job: str = "enrich_day"
) -> str:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return create_run_for_test(instance, job_name=job, status=status, tags=tags).run_id[:8]


@pytest.mark.parametrize("job", ["enrich_day", "__ASSET_JOB"])
@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED])
def test_only_the_days_of_an_unfinished_run_wait_for_it(
    instance: DagsterInstance, status: DagsterRunStatus, job: str
) -> None:
    """Its range, not the rest; once it is the only thing left, the tick says what is waited for."""
    run = work_on(instance, "2025-11-01", "2025-11-02", status, job)
    found = look(instance)
    assert ranges(found) == [("2025-11-03", "2025-11-04")]
    assert look(instance, found.cursor).skip_message == (
        f"2 days, 2025-11-01 to 2025-11-02, are being worked on by run {run}, and asked for again after it"
    )


def test_the_day_of_a_run_of_one_partition_waits(instance: DagsterInstance) -> None:
    """The UI tags a run of one day with the day alone."""
    create_run_for_test(
        instance,
        job_name="__ASSET_JOB",
        status=DagsterRunStatus.STARTED,
        tags={"dagster/partition": "2025-11-04"},
    )
    assert ranges(look(instance)) == [("2025-11-01", "2025-11-03")]


@pytest.mark.parametrize("tags", [{}, {"dagster/partition": "a|b"}])
def test_a_run_of_no_day_is_in_nobodys_way(instance: DagsterInstance, tags: dict[str, str]) -> None:
    """An asset without partitions, or with other ones."""
    create_run_for_test(instance, job_name="__ASSET_JOB", status=DagsterRunStatus.STARTED, tags=tags)
    assert len(ranges(look(instance))) == 1


@pytest.mark.parametrize("status", [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE])
def test_a_finished_run_is_in_nobodys_way(instance: DagsterInstance, status: DagsterRunStatus) -> None:
    """Success and failure both end the wait."""
    work_on(instance, "2025-11-01", "2025-11-04", status)
    assert len(ranges(look(instance))) == 1


@pytest.fixture
def archive(logs: Path, environment: pytest.MonkeyPatch) -> Path:
    """Three plain files of about 1 MB; a tick has time for one block of 256 KiB."""
    for number in range(3):
        body = b"".join(line(f"2025-12-0{1 + number}T{n % 24:02}:00:00Z", f"{n:012x}") for n in range(6000))
        (logs / f"cowrie.json.2025-12-0{1 + number}").write_bytes(body)
    environment.setattr(sensors, "LOOK_SECONDS", 1e-9)
    return logs


def asks_for(found: SensorExecutionData) -> list[str | None]:
    return [request.job_name for request in found.run_requests or []]


def read_so_far(found: SensorExecutionData) -> float:
    requests = found.run_requests or []
    said = requests[0].tags["cowrie/logs"] if requests else str(found.skip_message)
    return float(said.split()[1])


def test_an_archive_larger_than_a_tick_can_read(instance: DagsterInstance, archive: Path) -> None:
    """Every tick gets further and asks for the job that reads on; when all is read the days are asked for."""
    read = [0.0]
    while asks_for(found := look(instance)) == ["index_logs"]:
        assert found.cursor is None
        read.append(read_so_far(found))
        assert len(read) < 40
    assert len(read) > 12
    assert read == sorted(read)
    assert read[-1] > 3
    assert ranges(found) == [("2025-11-01", "2025-11-04"), ("2025-12-01", "2025-12-03")]


def test_one_job_reads_on_and_then_the_days_are_asked_for(instance: DagsterInstance, archive: Path) -> None:
    """While it runs the ticks only look; what it has read no tick reads again."""
    first = look(instance)
    running = create_run_for_test(instance, job_name="index_logs", status=DagsterRunStatus.STARTED)
    looks = [look(instance) for _ in range(3)]
    assert {read_so_far(found) for found in looks} == {read_so_far(first)}
    assert looks[0].skip_message == (
        f"read {read_so_far(first)} of 3.4 MB of the logs; run {running.run_id[:8]} (index_logs) reads on, "
        "then the days in them are enriched"
    )
    instance.delete_run(running.run_id)
    job = defs.resolve_job_def("index_logs").execute_in_process(instance=instance)
    assert job.success
    outputs = [event for event in job.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert outputs[0].step_output_data.metadata["read"].value == "read 3.4 of 3.4 MB"
    assert ranges(look(instance)) == [("2025-11-01", "2025-11-04"), ("2025-12-01", "2025-12-03")]


def test_a_job_that_waits_in_the_queue_does_not_stop_the_ticks(
    instance: DagsterInstance, archive: Path
) -> None:
    """It is not asked for again, and the ticks read on until it starts."""
    create_run_for_test(instance, job_name="index_logs", status=DagsterRunStatus.NOT_STARTED)
    first, second = look(instance), look(instance)
    assert (first.run_requests, second.run_requests) == ([], [])
    assert read_so_far(second) > read_so_far(first)


def defer_everything(enricher: Enricher, materialise: Materialise, simulator: Simulator) -> None:
    """One day whose lookups all failed; the service is mended afterwards."""
    simulator.set_fault("dshield", Fault(kind="html"))
    materialise("2025-11-01")
    simulator.set_fault("dshield")


def make_due(enricher: Enricher) -> None:
    """As if the time had passed for which the service is to be left alone, and what failed is to wait."""
    with enricher.database.write() as connection:
        connection.execute(
            text(
                "UPDATE lookups SET next_attempt_at = '2025-12-01 00:00:00+00:00' "
                "WHERE next_attempt_at IS NOT NULL"
            )
        )
        connection.execute(
            text("UPDATE service_limits SET cooldown_until = 0, penalty_until = 0, consecutive_failures = 0")
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
    enricher.queue.open("greynoise", [Wanted("198.51.100.7")])
    assert tick(instance, "due_lookups").skip_message == "no lookup is pending"
