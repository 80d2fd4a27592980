"""`sessions` -> `session_ips`."""

from dagster import AssetExecutionContext, MaterializeResult, ResourceParam, asset

from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_sessions
from cowrie_enrich_dagster.defs.metadata import table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import DatabaseResource, opened
from cowrie_enrich_dagster.defs.retries import retry


@asset(
    group_name="enrichment",
    partitions_def=daily,
    backfill_policy=single_run,
    retry_policy=retry,
    deps=[cowrie_sessions],
    kinds={"sql"},
)
def session_ips(
    context: AssetExecutionContext, database: ResourceParam[DatabaseResource]
) -> MaterializeResult:  # type: ignore[type-arg]
    """The day's source addresses: how active each was, whether it may be asked about, what it is worth."""
    with opened(database) as pipeline:
        report = pipeline.summarise_addresses(days_of(context))
    return MaterializeResult(
        metadata={
            "rows": report.rows,
            "addresses": report.distinct,
            "by_scope": table(["scope", "addresses"], sorted(report.by_scope.items())),
        }
    )
