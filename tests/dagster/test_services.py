"""Services with keys as an operator sees them in Dagster."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity, AssetKey, DagsterInstance, Definitions
from sqlalchemy import text

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.defs.assets import (
    campaigns,
    cowrie_logs,
    cowrie_sessions,
    enriched_sessions,
    enrichment_cache,
    session_ips,
)
from cowrie_enrich_dagster.defs.assets.feeds import feed_asset
from cowrie_enrich_dagster.defs.jobs import enrich_day
from cowrie_enrich_dagster.defs.resources import resources
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Fault, Simulator
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from cowrie_enrich_dagster.vocabulary import Days
from tests.all_services import hashes, write_attacks
from tests.dagster.conftest import Materialise
from tests.hook import Hook
from tests.logs import routable_ips


def with_feeds() -> Definitions:
    """What Dagster loads with the settings there are now: which feeds are on is decided then."""
    feeds = [
        feed_asset("dshield_sources", "-"),
        feed_asset("abuseipdb_blacklist", "-"),
    ]
    others = [cowrie_logs, cowrie_sessions, session_ips, enrichment_cache, enriched_sessions, campaigns]
    return Definitions(assets=[*others, *feeds], jobs=[enrich_day], resources=resources)


def test_what_answers_make_worth_asking_is_asked_in_the_same_run(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """One address of each block first, then of the smaller blocks; what DShield does not know, of Spur."""
    ips = [f"11.{n}.{m}.7" for n in range(3) for m in range(8)]
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", ips)))
    environment.setenv("ENRICH_SERVICES", "dshield,spur")
    environment.setenv("SPUR_API_URL", simulator.url("spur"))
    environment.setenv("SPUR_API_KEY", "key")
    environment.setenv("SPUR_RATE_LIMIT", "1000")
    environment.setenv("ENRICH_WANT", "country")
    result = materialise("2025-11-01")
    assert result.success
    with Enricher(load_settings()) as enricher:
        query = text("SELECT count(*) FROM enriched_sessions WHERE source_geo_country_iso_code IS NULL")
        with enricher.database.read() as connection:
            assert connection.execute(query).scalar_one() == 0
        assert enricher.plan(Days.parse("2025-11-01")).wanted == []
    calls = len(simulator.requests("dshield"))
    assert 3 <= calls < len(ips)
    (summary,) = result.asset_materializations_for_node("enrichment_cache.summarise")
    assert summary.metadata["run_api_calls"].value == calls + len(simulator.requests("spur"))
    assert summary.metadata["run_pending"].value == 0


def test_a_bad_key_is_a_failed_check_that_names_the_setting(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """VirusTotal is asked once and no more; the run is green, and says which variable to mend, each time."""
    ips = routable_ips(4)
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", ips, hashes(4))))
    environment.setenv("ENRICH_SERVICES", "dshield,virustotal")
    environment.setenv("VIRUSTOTAL_API_URL", simulator.url("virustotal"))
    environment.setenv("VIRUSTOTAL_API_KEY", REFUSED_KEY)
    environment.setenv("VIRUSTOTAL_RATE_LIMIT", "1")
    environment.setenv("VIRUSTOTAL_PER_MINUTE", "0")
    for _ in range(2):
        result = materialise("2025-11-01")
        assert result.success
        checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
        refused = checks["keys_accepted"]
        assert not refused.passed
        assert refused.severity is AssetCheckSeverity.WARN
        named = {service: value.value for service, value in refused.metadata.items()}
        assert named == {"virustotal": "VIRUSTOTAL_API_KEY"}
    assert len(simulator.requests("virustotal")) == 1
    assert set(simulator.calls_per_key("dshield")) == set(ips)
    environment.setenv("VIRUSTOTAL_API_KEY", "another-key")
    environment.setenv("VIRUSTOTAL_RATE_LIMIT", "100")
    checks = {check.check_name: check for check in materialise("2025-11-01").get_asset_check_evaluations()}
    assert checks["keys_accepted"].passed


def test_a_feed_is_read_before_anything_is_asked(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """The asset says what share of the addresses it answered; those are not asked about afterwards."""
    ips = routable_ips(8)
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", ips)))
    environment.setenv("ENRICH_FEEDS", "dshield")
    listed = json.dumps([{"ip": ip, "count": 7} for ip in ips[:6]])
    simulator.set_fault("dshield", Fault(kind="reply", status=200, body=listed, times=1))
    result = materialise("2025-11-01", definitions=with_feeds())
    assert result.success
    told = result.asset_materializations_for_node("dshield_feed")[0].metadata
    run = [told[f"run_{name}"].value for name in ("requests", "answered", "share_answered")]
    assert run == [1, 6, "75.0%"]
    assert told["dagster/row_count"].value == 6
    assert set(simulator.calls_per_key("dshield")) == set(ips[6:])


@pytest.mark.usefixtures("few_logs")
def test_a_feed_that_is_off_says_so_and_does_not_look_read(
    materialise: Materialise, instance: DagsterInstance
) -> None:
    """Nothing materialises it, and a reader of the lineage sees why."""
    assert materialise("2025-11-01").success
    ways = {"dshield_feed": "ENRICH_FEEDS turns it on, ", "abuseipdb_feed": "on with ABUSEIPDB_API_KEY, "}
    for name, way in ways.items():
        assert instance.get_latest_materialization_event(AssetKey(name)) is None
        spec = defs.resolve_asset_graph().get(AssetKey(name))
        assert not spec.is_materializable
        assert "Off" in (spec.description or "")
        assert way in (spec.description or "")
        assert spec.kinds == {"off"}


def test_a_failing_feed_is_a_warning(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """The run is green, the check says what is missing, and the addresses are asked about one by one."""
    ips = routable_ips(4)
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", ips)))
    environment.setenv("ENRICH_FEEDS", "dshield")
    simulator.set_fault("dshield", Fault(kind="html", times=1))
    result = materialise("2025-11-01", definitions=with_feeds())
    assert result.success
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert set(failed) == {"dshield_feed_read", "newest_session"}
    assert failed["dshield_feed_read"].severity is AssetCheckSeverity.WARN
    assert set(simulator.calls_per_key("dshield")) == set(ips)


def test_the_operator_is_told_of_a_bad_key_by_webhook(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """A run of Dagster's tells it as one of the command line does, once."""
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", routable_ips(2), hashes(2))))
    environment.setenv("ENRICH_SERVICES", "virustotal")
    environment.setenv("VIRUSTOTAL_API_URL", simulator.url("virustotal"))
    environment.setenv("VIRUSTOTAL_API_KEY", REFUSED_KEY)
    with closing(Hook()) as hook:
        environment.setenv("ENRICH_WEBHOOK_URL", hook.url())
        for _ in range(2):
            assert materialise("2025-11-01").success
        told = [text for text in hook.texts if text.startswith("A key is refused")]
    assert len(told) == 1
    assert "virustotal refuses VIRUSTOTAL_API_KEY." in told[0]
