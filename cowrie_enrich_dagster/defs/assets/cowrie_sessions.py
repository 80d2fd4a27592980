"""Log files -> `sessions`."""

from datetime import date
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetMaterialization,
    AssetSpec,
    MaterializeResult,
    ResourceParam,
    asset,
)

from cowrie_enrich_dagster.defs.columns import described, sample
from cowrie_enrich_dagster.defs.metadata import table, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.ingest import IngestReport, sessions_by_day
from cowrie_enrich_dagster.enrichment.learned import note_said
from cowrie_enrich_dagster.storage.tables import SessionRecord
from cowrie_enrich_dagster.vocabulary import Days

cowrie_logs = AssetSpec(
    "cowrie_logs",
    group_name="logs",
    description="Cowrie's JSON logs under COWRIE_LOG_DIR, written by the sensors.",
    kinds={"json"},
)
_LINES = AssetCheckSpec(
    "lines_accounted_for",
    asset="cowrie_sessions",
    description="Every line that the days were read from was parsed or quarantined (exact; no tolerance).",
)
_READABLE = AssetCheckSpec(
    "lines_readable",
    asset="cowrie_sessions",
    description="At most 1 % of these lines had to be quarantined, and no file was broken (warning).",
)
MAX_QUARANTINED = 0.01
LOG_MARK = "log_mark"
"""The fingerprint of the day's part of the logs, by which the sensor knows a day again that was read."""


@asset(
    group_name="sessions",
    partitions_def=daily,
    backfill_policy=in_runs,
    retry_policy=retry,
    deps=[cowrie_logs],
    check_specs=[_LINES, _READABLE],
    kinds={"sql"},
    metadata=described(SessionRecord),
)
def cowrie_sessions(
    context: AssetExecutionContext, database: ResourceParam[DatabaseResource]
) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per session that started on the day, from every log file that touches it."""
    days = days_of(context)
    with opened(database) as pipeline:
        marks = pipeline.log_days().days
        report = pipeline.ingest(days)
        _say_moved(context, pipeline, report.moved_days)
        sessions = sessions_by_day(pipeline.database, days)
        by_day: dict[date, dict[str, Any]] = {
            day: {
                "dagster/row_count": sessions.get(day, 0),
                "sessions": sessions.get(day, 0),
                "sample": sample(pipeline.database, SessionRecord, day),
                **({LOG_MARK: marks[day].extent} if day in marks else {}),
            }
            for day in days
        }
    read = report.read
    of_run = {
        "run_sessions": report.sessions,
        "run_events": read.events,
        "run_files": read.files,
        "run_lines_in": read.lines_in,
        "run_lines_quarantined": read.lines_quarantined,
        "run_duplicate_events": read.duplicate_events,
        "run_sessions_by_day": table(["day", "sessions"], sorted(report.sessions_by_day.items())),
        "run_moved_days": [str(day) for day in report.moved_days],
    }
    tell(context, by_day, of_run)
    return MaterializeResult(check_results=[_accounted(report), _readable(report)])


def _say_moved(context: AssetExecutionContext, pipeline: Enricher, days: list[date]) -> None:
    """Materialise the other days whose sessions these logs completed, parted or moved."""
    for day in days:
        if daily.has_partition_key(str(day)):
            rows = sessions_by_day(pipeline.database, Days(day, day)).get(day, 0)
            for asset_name in ("cowrie_sessions", "session_ips", "enriched_sessions"):
                row_count = {} if asset_name == "session_ips" else {"dagster/row_count": rows}
                context.log_event(AssetMaterialization(asset_name, partition=str(day), metadata=row_count))
    note_said(pipeline.database, days)


def _accounted(report: IngestReport) -> AssetCheckResult:
    read = report.whole
    return AssetCheckResult(
        check_name=_LINES.name,
        passed=read.lines_in == read.lines_parsed + read.lines_quarantined,
        metadata={
            "lines_in": read.lines_in,
            "lines_parsed": read.lines_parsed,
            "lines_quarantined": read.lines_quarantined,
        },
    )


def _readable(report: IngestReport) -> AssetCheckResult:
    read = report.whole
    share = read.lines_quarantined / read.lines_in if read.lines_in else 0.0
    return AssetCheckResult(
        check_name=_READABLE.name,
        passed=share <= MAX_QUARANTINED and not read.files_broken,
        severity=AssetCheckSeverity.WARN,
        metadata={"share_quarantined": share, "files_broken": read.files_broken},
    )
