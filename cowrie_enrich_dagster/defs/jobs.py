"""Jobs: the assets as one selection, and the upkeep of queue and cache."""

from datetime import timedelta
from pathlib import Path

from dagster import (
    AssetMaterialization,
    AssetSelection,
    Config,
    OpExecutionContext,
    define_asset_job,
    job,
    op,
)
from pydantic import Field

from cowrie_enrich_dagster.defs.budget import end_of_run
from cowrie_enrich_dagster.defs.metadata import counts_table, eta_metadata
from cowrie_enrich_dagster.defs.partitions import daily
from cowrie_enrich_dagster.defs.resources import EnricherResource
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.enricher import Enricher
from cowrie_enrich_dagster.enrichment.fetch import Progress
from cowrie_enrich_dagster.enrichment.learned import days_to_say, note_said
from cowrie_enrich_dagster.enrichment.report import DrainReport
from cowrie_enrich_dagster.vocabulary import Days

EVERY_MINUTES = 15

enrich_day = define_asset_job(
    "enrich_day",
    selection=AssetSelection.groups("logs", "feeds", "enrichment"),
    description="Logs of the chosen days -> enriched sessions.",
)


@op(retry_policy=retry, pool="fetch")
def drain_queue(context: OpExecutionContext, enricher: EnricherResource) -> None:
    """Ask what is due, for as long as a run may; write what was learned into the rows it concerns."""
    with enricher.open() as pipeline:
        report = pipeline.drain(_log(context), until=end_of_run(context, pipeline.settings))
        _tell(context, pipeline, report)


def _log(context: OpExecutionContext) -> Progress:
    return lambda service, done, wanted: context.log.info("%s: %d of %d answered", service, done, wanted)


def _tell(context: OpExecutionContext, pipeline: Enricher, report: DrainReport) -> None:
    """Metadata of the step; materialisations of the days whose rows it wrote.

    Slices follow one another while something is due: so that a day does not come up in each of them, it is
    said at most every ENRICH_EVERY_MINUTES, and in the last slice.
    """
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
    every = timedelta(minutes=EVERY_MINUTES) if pipeline.askable() else timedelta(0)
    days = days_to_say(pipeline.database, every)
    for day in days:
        if daily.has_partition_key(str(day)):
            rows = pipeline.count_sessions(Days(day, day))
            context.log_event(
                AssetMaterialization(
                    "enriched_sessions", partition=str(day), metadata={"dagster/row_count": rows}
                )
            )
    note_said(pipeline.database, days)


@job(description="Ask the lookups that are due, for five minutes at most; the days they improve are said.")
def drain_lookups() -> None:
    drain_queue()


class RefreshConfig(Config):
    """Which answers are refreshed: those that expire within `ahead_hours`, of keys seen lately."""

    ahead_hours: int = Field(default=24, ge=1)
    active_days: int = Field(default=7, ge=1)


@op(retry_policy=retry, pool="fetch")
def refresh(context: OpExecutionContext, enricher: EnricherResource, config: RefreshConfig) -> None:
    """Ask what was never asked, and again what is about to expire of what is still active."""
    with enricher.open() as pipeline:
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
def cleanup(context: OpExecutionContext, enricher: EnricherResource, config: CleanupConfig) -> None:
    """Delete answers that have expired."""
    with enricher.open() as pipeline:
        counts = pipeline.cleanup(dry_run=config.dry_run)
    context.add_output_metadata({"expired": sum(counts.values()), "by_service": counts})


@job(description="Delete expired answers from the database tier.")
def cleanup_cache() -> None:
    cleanup()


class ImportConfig(Config):
    """`folder` is the base of a filesystem cache of the reference implementation (a CACHE_DIR)."""

    folder: str


@op(retry_policy=retry)
def import_files(context: OpExecutionContext, enricher: EnricherResource, config: ImportConfig) -> None:
    """Move a filesystem cache into the database, ages kept."""
    with enricher.open() as pipeline:
        report = pipeline.import_files(Path(config.folder))
    context.add_output_metadata(report.as_dict())


@job(description="Import a filesystem cache into the database; may be repeated.")
def import_filesystem_cache() -> None:
    import_files()
