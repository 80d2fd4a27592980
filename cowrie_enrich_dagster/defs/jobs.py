"""Jobs: the assets as one selection, and the upkeep of queue and cache."""

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from time import monotonic

from dagster import (
    AssetMaterialization,
    AssetSelection,
    Config,
    Failure,
    OpExecutionContext,
    ResourceParam,
    define_asset_job,
    job,
    op,
)
from pydantic import Field

from cowrie_enrich_dagster.defs.assets.enriched_sessions import rows_of_day
from cowrie_enrich_dagster.defs.assets.enrichment_cache import answers_of_day
from cowrie_enrich_dagster.defs.budget import end_of_run
from cowrie_enrich_dagster.defs.metadata import counts_table, eta_metadata, table
from cowrie_enrich_dagster.defs.partitions import daily
from cowrie_enrich_dagster.defs.prune import Pruned, prune_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.hit_rates import HitRates
from cowrie_enrich_dagster.enrichment.learned import days_to_say, note_said
from cowrie_enrich_dagster.enrichment.run_report import DrainReport
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.vocabulary import Days, Progress

PROGRESS_SECONDS = 10.0

enrich_day = define_asset_job(
    "enrich_day",
    selection=AssetSelection.groups("sessions", "feeds", "answers", "enriched", "campaigns"),
    description="Logs of the chosen days -> enriched sessions and their campaigns.",
)


@op(retry_policy=retry)
def read_logs(context: OpExecutionContext, database: ResourceParam[DatabaseResource]) -> None:
    """Find out which days lie where in the log files, and keep that as it comes."""
    said_at = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said_at
        if monotonic() - said_at >= PROGRESS_SECONDS:
            said_at = monotonic()
            context.log.info(how_far(done, total))

    with opened(database) as pipeline:
        look = pipeline.log_days(progress=progress)
    context.add_output_metadata({"read": how_far(look.bytes_done, look.bytes_total), "days": len(look.days)})


@job(
    description="Read logs that are too many for a tick of new_log_files, which starts this by itself. May "
    "be killed and started again: it goes on where it was."
)
def index_logs() -> None:
    read_logs()


def how_far(done: int, total: int) -> str:
    """`read 12.0 of 180.0 GB`."""
    unit, name = (10**9, "GB") if total >= 10**9 else (10**6, "MB")
    return f"read {done / unit:.1f} of {total / unit:.1f} {name}"


@op(retry_policy=retry, pool="fetch")
def drain_queue(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> None:
    """Ask what is due, for as long as a run may; write what was learned into the rows it concerns."""
    with opened(database, redis, rate_limits) as pipeline:
        report = pipeline.drain(_log(context), until=end_of_run(context, pipeline.settings))
        _tell(context, pipeline, report)


def _log(context: OpExecutionContext) -> Progress:
    return lambda service, done, wanted: context.log.info("%s: %d of %d answered", service, done, wanted)


def _tell(context: OpExecutionContext, pipeline: Enricher, report: DrainReport) -> None:
    """Metadata of the step; materialisations of the days whose rows it wrote.

    Slices follow one another while something is due: so that a day does not come up in each of them, it is
    said at most every ENRICH_EVERY_MINUTES, and in the last slice.
    """
    for name, told in report.run.lists.items():
        if told["problem"]:
            context.log.warning("list %s: %s", name, told["problem"])
    context.add_output_metadata(
        {
            "asked": counts_table("service", {part.service: part.statuses for part in report.fetched}),
            "sessions": report.run.sessions,
            "pending": report.run.pending,
            **eta_metadata(report.run),
            "days": [str(day) for day in report.days],
            "days_of_other_lists": [str(day) for day in report.run.days_of_other_lists],
        }
    )
    every = (
        timedelta(minutes=pipeline.settings.every_minutes) if pipeline.askable(at_once=True) else timedelta(0)
    )
    days = days_to_say(pipeline.database, every)
    for day in days:
        if daily.has_partition_key(str(day)):
            _say(context, pipeline, day)
    note_said(pipeline.database, days)


def _say(context: OpExecutionContext, pipeline: Enricher, day: date) -> None:
    """Materialise what a drain improved: the answers about the day, and the rows that have them."""
    span = Days(day, day)
    answers = answers_of_day(pipeline.answers_by_day(span)[day], HitRates())
    rows = rows_of_day(pipeline, day, pipeline.reports_by_day(span)[day])
    for asset, metadata in (("enrichment_cache", answers), ("enriched_sessions", rows)):
        context.log_event(AssetMaterialization(asset, partition=str(day), metadata=metadata))


@job(description="Ask the lookups that are due, for five minutes at most; the days they improve are said.")
def drain_lookups() -> None:
    drain_queue()


class RefreshConfig(Config):
    """Which answers are refreshed: those that expire within `ahead_hours`, of keys seen lately."""

    ahead_hours: int = Field(default=24, ge=1)
    active_days: int = Field(default=7, ge=1)


@op(retry_policy=retry, pool="fetch")
def refresh(
    context: OpExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
    config: RefreshConfig,
) -> None:
    """Ask what was never asked, and again what is about to expire of what is still active."""
    with opened(database, redis, rate_limits) as pipeline:
        report = pipeline.refresh(
            timedelta(hours=config.ahead_hours),
            timedelta(days=config.active_days),
            until=end_of_run(context, pipeline.settings),
            progress=_log(context),
        )
        _tell(context, pipeline, report)


@job(description="Open lookups for services and keys that came later; refresh answers about to expire.")
def refresh_stale() -> None:
    refresh()


class CleanupConfig(Config):
    """With `dry_run` nothing is deleted, only counted."""

    dry_run: bool = False


@op(retry_policy=retry)
def cleanup(
    context: OpExecutionContext, database: ResourceParam[DatabaseResource], config: CleanupConfig
) -> None:
    """Delete answers that have expired, and what lists said before the oldest session."""
    with opened(database) as pipeline:
        counts = pipeline.cleanup(dry_run=config.dry_run)
        list_entries = pipeline.prune_lists(dry_run=config.dry_run)
    figures = {"expired": sum(counts.values()), "by_service": counts, "list_entries": list_entries}
    context.add_output_metadata(figures)


@job(description="Delete expired answers from the database tier, and what lists said before any session.")
def cleanup_cache() -> None:
    cleanup()


class ImportConfig(Config):
    """`folder` is the base of a filesystem cache of the reference implementation (a CACHE_DIR)."""

    folder: str


@op(retry_policy=retry)
def import_files(
    context: OpExecutionContext, database: ResourceParam[DatabaseResource], config: ImportConfig
) -> None:
    """Move a filesystem cache into the database, ages kept."""
    if not Path(config.folder).is_dir():
        raise Failure(f"{config.folder} is not a folder", allow_retries=False)
    with opened(database) as pipeline:
        report = pipeline.import_files(Path(config.folder))
    context.add_output_metadata(report.as_dict())


@job(description="Import a filesystem cache into the database; may be repeated.")
def import_filesystem_cache() -> None:
    import_files()


class ForgetConfig(Config):
    """With `dry_run` nothing is deleted, only counted."""

    dry_run: bool = True


@op(retry_policy=retry)
def forget(
    context: OpExecutionContext, database: ResourceParam[DatabaseResource], config: ForgetConfig
) -> None:
    """Delete the days that ENRICH_KEEP_DAYS does not keep, and what only they needed."""
    with opened(database) as pipeline:
        gone = pipeline.forget_old_days(dry_run=config.dry_run)
    if gone.keep_from is None:
        context.log.info("ENRICH_KEEP_DAYS is not set: every day is kept")
    elif gone.dry_run:
        context.log.info(
            "a dry run: nothing was deleted; set dry_run to false to delete what is counted here"
        )
    context.add_output_metadata({name: value for name, value in gone.as_dict().items() if value is not None})


@job(
    description="Delete sessions older than ENRICH_KEEP_DAYS keeps, and what only they needed. Started by "
    "hand it only counts, unless dry_run is set to false."
)
def forget_old_days() -> None:
    forget()


@op(retry_policy=retry)
def prune(context: OpExecutionContext) -> None:
    """Delete old finished runs that no status rests on."""
    days = load_settings().keep_runs_days
    before = datetime.now(timezone.utc) - timedelta(days=days)

    def progress(so_far: Pruned) -> None:
        context.log.info("%d runs deleted, %d kept", so_far.deleted, so_far.kept.total())

    pruned = prune_runs(context.instance, before, progress)
    context.add_output_metadata(
        {
            "ended_before": before.isoformat(timespec="seconds"),
            "runs_deleted": pruned.deleted,
            "runs_kept": pruned.kept.total(),
            "kept_because": table(["reason", "runs"], pruned.kept.most_common()),
        }
    )


@job(
    description="Delete finished runs that ended more than ENRICH_KEEP_RUNS_DAYS ago from Dagster's history, "
    "save those that the status of a partition or check rests on."
)
def prune_history() -> None:
    prune()
