"""The partition of a day that grows: what it tells, and how it is checked, is of all of the day."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from pathlib import Path

import pytest

from tests.dagster.conftest import Materialise
from tests.dagster.test_assets import checks, figures
from tests.integration.enrichment.test_growing_day import append, session

BEGIN = datetime.combine(datetime.now(timezone.utc).date(), time(), timezone.utc)


def test_metadata_and_checks_tell_the_day_and_the_run_what_is_new(
    materialise: Materialise, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Thirty sessions, then one more and rubbish: of six new lines a sixth, of the day next to nothing."""
    log = tmp_path / "growing" / "cowrie.json"
    environment.setenv("COWRIE_LOG_DIR", str(log.parent))
    lines = [b"".join(session(n, at=BEGIN + timedelta(seconds=n))) for n in range(1, 32)]
    day = str(BEGIN.date())
    append(log, b"".join(lines[:-1]))
    materialise(day)
    append(log, lines[-1] + b"rubbish\n")

    grown = materialise(day)

    assert {figures(grown, asset)["dagster/row_count"] for asset in ("cowrie_sessions", "session_ips")} == {
        31
    }
    read, written = figures(grown, "cowrie_sessions"), figures(grown, "enriched_sessions")
    assert (read["sessions"], read["run_lines_in"], read["run_lines_quarantined"]) == (31, 6, 1)
    assert (written["dagster/row_count"], written["run_sessions"]) == (31, 31)
    told = {
        name: [check.passed, *(value.value for value in check.metadata.values())]
        for name, check in checks(grown).items()
    }
    assert told["lines_accounted_for"] == [True, 156, 155, 1]
    assert told["lines_readable"] == [True, 1 / 156, 0]
    assert told["every_session_has_its_row"] == [True, 31, 31]
    assert told["coverage"] == [True, 1.0, 0]
