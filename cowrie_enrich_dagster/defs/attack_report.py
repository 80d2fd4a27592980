"""What a reader wants to know of a day -> a page under `reports/` of our home, its figures and plots here."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    DefaultScheduleStatus,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    RunRequest,
    ScheduleEvaluationContext,
    SkipReason,
    asset,
    define_asset_job,
    schedule,
    with_source_code_references,
)

from cowrie_enrich_dagster.defs.assets.campaigns import campaigns
from cowrie_enrich_dagster.defs.assets.enriched_sessions import enriched_sessions
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.notices import note_report
from cowrie_enrich_dagster.report.figures import figures_of
from cowrie_enrich_dagster.report.words import headline
from cowrie_enrich_dagster.vocabulary import Days


@asset(
    group_name="reports",
    partitions_def=daily,
    backfill_policy=in_runs,
    retry_policy=retry,
    deps=[enriched_sessions, campaigns],
    kinds={"html"},
)
def attack_report(
    context: AssetExecutionContext, database: ResourceParam[DatabaseResource]
) -> MaterializeResult:  # type: ignore[type-arg]
    """Who attacked, with what, what is new and what is not known yet: a page for each day, and one for all.

    Pages are written to `reports/` under COWRIE_ENRICH_HOME and load nothing from anywhere. `cowrie-enrich
    report --days A..B` makes the same page.
    """
    days = days_of(context)
    with opened(database) as pipeline:
        folder = _folder(pipeline.settings.home)
        for day in days:
            of_day = _of(pipeline, Days(day, day), folder)
            context.add_asset_metadata(of_day, partition_key=str(day))
            said = f"{of_day['summary'].value}\n\n{of_day['page'].value}"
            note_report(pipeline.notices, day, pipeline.database.moment().date(), said)
        pipeline.notices.deliver()
        if days.first == days.last:
            return MaterializeResult()
        of_run = _of(pipeline, days, folder)
    return MaterializeResult(metadata={f"run_{name}": value for name, value in of_run.items()})


_SHOWN = {"timeline": "timeline", "networks": "networks", "told_by_services": "coverage"}
"""The plots of the page that Dagster shows, too."""


def _folder(home: Path) -> Path:
    folder = home / "reports"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        reason = f"{folder} cannot be made ({problem.strerror}): set COWRIE_ENRICH_HOME to a folder of ours"
        raise Failure(reason, allow_retries=False) from problem
    return folder


def _of(pipeline: Enricher, days: Days, folder: Path) -> dict[str, Any]:
    """Write the page of some days; what Dagster shows of it."""
    from cowrie_enrich_dagster.report import page  # loads matplotlib, which no other step needs

    figures, path = figures_of(pipeline, days), folder / f"report-{days}.html"
    drawn = page.plots_of(figures)
    page.write_page(figures, path, drawn)
    totals = figures.totals
    return {
        "summary": MetadataValue.md("\n\n".join(headline(figures))),
        "page": MetadataValue.path(path),
        "sessions": totals.sessions,
        "sources": totals.sources,
        "sources_in": totals.sources_in,
        "sessions_in": totals.sessions_in,
        "logins": totals.logins,
        "commands": totals.commands,
        "files": totals.files,
        "campaigns": figures.campaigns.total,
        "lookups_missing": sum(gap.missing for gap in figures.gaps),
        **{
            f"plot_{name}": MetadataValue.md(f"![plot]({drawn[plot].data_uri()})")
            for name, plot in _SHOWN.items()
            if plot in drawn
        },
    }


report_days = define_asset_job(
    "report_days",
    selection=[attack_report],
    description="The report on the chosen days: a page for each and one for all, of what is enriched.",
)


@schedule(
    name="daily_report",
    job=report_days,
    cron_schedule="0 1 * * *",  # the day is over for an hour, and its logs have been read
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Writes the report on the day that is over.",
)
def daily_report(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
    """Ask for yesterday's report."""
    yesterday = str((context.scheduled_execution_time - timedelta(days=1)).date())
    if not daily.has_partition_key(yesterday):
        return SkipReason(f"{yesterday} is before ENRICH_START_DAY")
    return RunRequest(partition_key=yesterday)


reports = with_source_code_references([attack_report])
"""With the place in the code where it is defined."""
