"""The report in Dagster: pages under our home, figures and plots of each day, and of all at once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from dagster import (
    DagsterInstance,
    RunRequest,
    SkipReason,
    build_schedule_context,
)

from cowrie_enrich_dagster.definitions import defs
from cowrie_enrich_dagster.defs.reports import daily_report
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.report.figures import figures_of
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days
from tests.dagster.conftest import Materialise
from tests.dagster.test_sensors import tick
from tests.hook import Hook
from tests.logs import routable_ips, write_logs

DAYS = ["2025-11-01", "2025-11-02"]


@pytest.mark.sampled
def test_each_day_has_its_page_its_figures_and_its_plots(
    materialise: Materialise, instance: DagsterInstance, enricher: Enricher, tmp_path: Path
) -> None:
    """Those of `figures_of`; the range as a whole has a page, too."""
    materialise(*DAYS)
    result = defs.resolve_job_def("report_days").execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": DAYS[0],
            "dagster/asset_partition_range_end": DAYS[1],
        },
    )
    told = {}
    for event in result.asset_materializations_for_node("attack_report"):
        told[event.partition] = {name: value.value for name, value in event.metadata.items()}
    for day in DAYS:
        totals = figures_of(enricher, Days.parse(day)).totals
        figures = told[day]
        assert (figures["sessions"], figures["sources"]) == (totals.sessions, totals.sources)
        assert (figures["commands"], figures["files"]) == (totals.commands, totals.files)
        assert figures["summary"].startswith(f"{totals.sessions} sessions from {totals.sources} addresses")
        for plot in ("timeline", "networks", "told_by_services"):
            assert figures[f"plot_{plot}"].startswith("![plot](data:image/svg+xml;base64,")
        page = Path(figures["page"])
        assert page == tmp_path / "reports" / f"report-{day}.html"
        assert page.read_text().startswith("<!doctype html>")
        assert figures["run_sessions"] == 925
    assert (tmp_path / "reports" / f"report-{DAYS[0]}..{DAYS[1]}.html").exists()
    assert (tmp_path / "reports").stat().st_mode & 0o077 == 0


def test_every_morning_the_day_that_is_over_is_reported() -> None:
    """Yesterday, in UTC; not before there are partitions."""

    def asked(moment: datetime) -> RunRequest | SkipReason:
        return daily_report(build_schedule_context(scheduled_execution_time=moment))  # type: ignore[return-value]

    request = asked(datetime(2025, 11, 2, 1, tzinfo=timezone.utc))
    assert isinstance(request, RunRequest)
    assert request.partition_key == "2025-11-01"
    assert isinstance(asked(datetime(2020, 1, 1, 1, tzinfo=timezone.utc)), SkipReason)


def test_the_report_is_told_to_the_webhook_once(
    materialise: Materialise,
    instance: DagsterInstance,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its first sentences and where the page is, when the day is over; silence comes from the sensor."""
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    hook, day = Hook(), str(yesterday.date())
    logs = write_logs(tmp_path / "yesterday", routable_ips(4), start=yesterday)
    environment.setenv("COWRIE_LOG_DIR", str(logs))
    environment.setenv("ENRICH_WEBHOOK_URL", hook.url())
    materialise(day)
    for _ in range(2):
        defs.resolve_job_def("report_days").execute_in_process(instance=instance, partition_key=day)
    (text,) = hook.texts
    assert text.startswith(f"The report on the day\n{day}\n4 sessions from 4 addresses; of ")
    assert text.endswith(f"\n{tmp_path}/reports/report-{day}.html")
    with Enricher(load_settings()) as enricher, enricher.database.write() as connection:
        connection.exec_driver_sql("UPDATE sessions SET started_at = '2025-11-01 00:00:00+00:00'")
    for _ in range(2):
        tick(instance, "freshness")
    assert [text.partition("\n")[0] for text in hook.texts[1:]] == ["No session for 26 hours"]
    hook.close()
