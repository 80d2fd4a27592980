"""Services with keys as an operator sees them in Dagster."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import AssetCheckSeverity

from cowrie_enrich_dagster.simulator import Simulator
from cowrie_enrich_dagster.simulator.pages import REFUSED_KEY
from tests.all_services import hashes, write_attacks
from tests.dagster.conftest import Materialise
from tests.logs import routable_ips


def test_a_bad_key_is_a_failed_check_that_names_the_setting(
    materialise: Materialise, environment: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> None:
    """VirusTotal is asked once and no more; the run is green, and says which variable to mend, each time."""
    ips = routable_ips(4)
    environment.setenv("COWRIE_LOG_DIR", str(write_attacks(tmp_path / "attacks", ips, hashes(4))))
    environment.setenv("ENRICH_SERVICES", "dshield,virustotal")
    environment.setenv("VIRUSTOTAL_API_URL", simulator.url("virustotal"))
    environment.setenv("VIRUSTOTAL_API_KEY", REFUSED_KEY)
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
