"""`sessions` -> `session_ips`."""

from dagster import AssetExecutionContext, MaterializeResult, ResourceParam, asset

from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_sessions
from cowrie_enrich_dagster.defs.columns import described, sample
from cowrie_enrich_dagster.defs.metadata import table, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.enrichment.session_ips import addresses_by_day
from cowrie_enrich_dagster.storage.tables import SessionIp


@asset(
    group_name="sessions",
    partitions_def=daily,
    backfill_policy=in_runs,
    retry_policy=retry,
    deps=[cowrie_sessions],
    kinds={"sql"},
    metadata=described(SessionIp),
)
def session_ips(
    context: AssetExecutionContext, database: ResourceParam[DatabaseResource]
) -> MaterializeResult:  # type: ignore[type-arg]
    """The day's source addresses: how active each was, whether it may be asked about, what it is worth."""
    days = days_of(context)
    with opened(database) as pipeline:
        report = pipeline.summarise_addresses(days)
        addresses = addresses_by_day(pipeline.database, days)
        sessions = sessions_by_day(pipeline.database, days)
        by_day = {
            day: {
                "dagster/row_count": addresses.get(day, 0),
                "sessions": sessions.get(day, 0),
                "sample": sample(pipeline.database, SessionIp, day),
            }
            for day in days
        }
    of_run = {
        "run_addresses": report.distinct,
        "run_by_scope": table(["scope", "addresses"], sorted(report.by_scope.items())),
    }
    tell(context, by_day, of_run)
    return MaterializeResult()
