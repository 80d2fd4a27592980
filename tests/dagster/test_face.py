"""What an operator meets first: settings that are missing, a wrong folder, a refresh, a log that was read."""

from __future__ import annotations

import shutil
from datetime import timedelta
from hashlib import sha1
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterEventType, DagsterInstance
from dagster._core.events import StepMaterializationData
from sqlalchemy import select, text, update

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import downgrade
from cowrie_enrich_dagster.storage.tables import EnrichmentCache
from cowrie_enrich_dagster.vocabulary import utc_now
from tests import attacks
from tests.all_services import hashes, write_attacks
from tests.dagster.conftest import Materialise
from tests.dagster.test_sensors import tick
from tests.logs import START, routable_ips


@pytest.mark.parametrize("sensor", ["new_log_files", "due_lookups", "freshness"])
def test_a_sensor_names_the_setting_that_is_missing(
    sensor: str, instance: DagsterInstance, environment: pytest.MonkeyPatch
) -> None:
    """What only a setting can mend is a skip, not a failure every thirty seconds."""
    environment.delenv("COWRIE_LOG_DIR")
    if sensor != "new_log_files":
        environment.setenv("DATABASE_URL", "sqlite:////proc/nowhere/x.db")
    told = tick(instance, sensor)
    assert not told.run_requests
    words = "COWRIE_LOG_DIR is not set" if sensor == "new_log_files" else "/proc/nowhere"
    assert words in (told.skip_message or "")


def test_a_log_that_was_read_by_hand_is_not_read_again_by_the_sensor(
    materialise: Materialise, instance: DagsterInstance, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sensor's first tick asks for what no run has read as it is now, and for nothing else."""
    a_day_each = [attacks.Attack(f"{n:012}", "11.0.0.1", START + timedelta(days=n)) for n in range(3)]
    logs = attacks.write_attacks(tmp_path / "attacks", a_day_each)
    environment.setenv("COWRIE_LOG_DIR", str(logs))

    def asked() -> list[str]:
        told = tick(instance, "new_log_files")
        return [request.tags["dagster/asset_partition_range_start"] for request in told.run_requests or []]

    assert asked() == ["2025-11-01"]
    materialise("2025-11-01", "2025-11-03")
    assert asked() == []
    shutil.copy(logs / "cowrie.json.2025-11-03", logs / "late.json")
    assert asked() == ["2025-11-02"]


@pytest.mark.usefixtures("few_logs")
def test_the_newest_session_is_told_without_a_run(
    materialise: Materialise, instance: DagsterInstance
) -> None:
    """The sensor says the check; rows that were written a moment ago do not make old sessions new."""
    materialise("2025-11-01")
    (told,) = tick(instance, "freshness").asset_events
    assert (told.check_name, told.passed) == ("newest_session", False)


def test_a_wrong_folder_fails_once_in_a_sentence(instance: DagsterInstance) -> None:
    """The import says what is wrong with the folder and is not tried again."""
    result = defs.resolve_job_def("import_filesystem_cache").execute_in_process(
        instance=instance,
        run_config={"ops": {"import_files": {"config": {"folder": "/no/such/folder"}}}},
        raise_on_error=False,
    )
    assert not [e for e in result.all_events if e.event_type is DagsterEventType.STEP_UP_FOR_RETRY]
    failure = result.failure_data_for_node("import_files")
    assert failure is not None
    assert failure.error is not None
    assert "/no/such/folder is not a folder" in failure.error.message


def test_a_refresh_materialises_what_it_improved(
    materialise: Materialise, instance: DagsterInstance, enricher: Enricher, few_logs: list[str]
) -> None:
    """Both assets, for the day whose rows it wrote, with that day's figures."""
    materialise("2025-11-01")
    with enricher.database.write() as connection:
        connection.execute(text("UPDATE enrichment_cache SET expires_at = '2025-12-01 00:00:00+00:00'"))
    job = defs.resolve_job_def("refresh_stale")
    config = {"ops": {"refresh": {"config": {"active_days": 4000}}}}
    result = job.execute_in_process(instance=instance, run_config=config)
    assert result.success
    for asset in ("enrichment_cache", "enriched_sessions"):
        latest = instance.get_latest_materialization_event(AssetKey(asset))
        assert latest is not None
        assert latest.run_id == result.run_id
        assert latest.asset_materialization is not None
        assert latest.asset_materialization.partition == "2025-11-01"
        figures = {name: value.value for name, value in latest.asset_materialization.metadata.items()}
        assert (figures["sessions"], figures["coverage_dshield"]) == (3 * len(few_logs), 1.0)


@pytest.mark.parametrize(
    ("service", "day"), [("virustotal", "2025-11-01"), ("hibp", "2025-11-02")], ids=["files", "passwords"]
)
def test_a_refresh_covers_files_and_passwords(
    service: str,
    day: str,
    materialise: Materialise,
    instance: DagsterInstance,
    environment: pytest.MonkeyPatch,
    simulator: Simulator,
    database: Database,
    tmp_path: Path,
) -> None:
    """What is about to expire is asked again once; both assets for the day it stands in, and no other."""
    ips, passwords = routable_ips(6), [f"password {n}" for n in range(5)]
    write_attacks(tmp_path / "attacks" / "files", ips[:3], files=hashes(4))
    log = write_attacks(tmp_path / "attacks" / "passwords", ips[3:], passwords=passwords) / "cowrie.json"
    log.write_text(log.read_text().replace("2025-11-01", "2025-11-02").replace("sensor-a", "sensor-b"))
    keys = {
        "virustotal": set(hashes(4)),
        "hibp": {sha1(text.encode()).hexdigest()[:5].upper() for text in passwords},
    }
    settings = {
        "COWRIE_LOG_DIR": str(tmp_path / "attacks"),
        "DATABASE_URL": database.url.render_as_string(hide_password=False),
        "ENRICH_SERVICES": "dshield,virustotal,hibp",
        "VIRUSTOTAL_API_KEY": "tests-key",
        **{f"{name.upper()}_API_URL": simulator.url(name) for name in keys},
        **{f"{name.upper()}_RATE_LIMIT": "1000" for name in keys},
        **{f"{name.upper()}_PER_MINUTE": "0" for name in keys},
    }
    for name, value in settings.items():
        environment.setenv(name, value)
    materialise("2025-11-01", "2025-11-02")
    assert simulator.calls_per_key(service) == dict.fromkeys(keys[service], 1)
    now, its_own = utc_now(), EnrichmentCache.service == service
    with database.write() as connection:
        for chosen, hours in ((~its_own, 500), (its_own, 20)):
            until = now + timedelta(hours=hours)
            connection.execute(update(EnrichmentCache).where(chosen).values(expires_at=until))
    before = {name: len(simulator.requests(name)) for name in ("dshield", *keys)}
    config = {"ops": {"refresh": {"config": {"active_days": 4000}}}}
    result = defs.resolve_job_def("refresh_stale").execute_in_process(instance=instance, run_config=config)
    assert result.success
    asked = {name: len(simulator.requests(name)) - number for name, number in before.items()}
    assert asked == {"dshield": 0, "virustotal": 0, "hibp": 0, service: len(keys[service])}
    assert simulator.calls_per_key(service) == dict.fromkeys(keys[service], 2)
    told = [
        event.materialization
        for event in (e.event_specific_data for e in result.get_asset_materialization_events())
        if isinstance(event, StepMaterializationData)
    ]
    assert [(one.asset_key.to_user_string(), one.partition) for one in told] == [
        ("enrichment_cache", day),
        ("enriched_sessions", day),
    ]
    assert [one.metadata[f"coverage_{service}"].value for one in told] == [1.0, 1.0]
    with database.read() as connection:
        query = select(EnrichmentCache.fetched_at).where(its_own)
        assert min(connection.execute(query).scalars()) > now


@pytest.mark.usefixtures("few_logs")
def test_a_sqlite_file_that_is_named_is_made_like_the_default(
    materialise: Materialise, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Made by the run, for nobody else to read; an older one is copied before it is upgraded."""
    path = tmp_path / "named.db"
    environment.setenv("DATABASE_URL", f"sqlite:///{path}")
    assert materialise("2025-11-01").success
    assert path.stat().st_mode & 0o777 == 0o600
    with Enricher(load_settings()) as opened:
        downgrade(opened.database, "v15")
    with Enricher(load_settings()):
        copy = tmp_path / "named.db.v15.bak"
        assert copy.stat().st_mode & 0o777 == 0o600
        assert copy.stat().st_size > 100_000
