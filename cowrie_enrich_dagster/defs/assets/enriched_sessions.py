"""`sessions` x answers -> `enriched_sessions`."""

from datetime import timedelta

from dagster import AssetExecutionContext, FreshnessPolicy, MaterializeResult, ResourceParam, asset

from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_sessions
from cowrie_enrich_dagster.defs.assets.enrichment_cache import enrichment_cache
from cowrie_enrich_dagster.defs.metadata import counts_table, percent, table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment.learned import note_said
from cowrie_enrich_dagster.vocabulary import Days


@asset(
    group_name="enrichment",
    partitions_def=daily,
    backfill_policy=single_run,
    retry_policy=retry,
    deps=[cowrie_sessions, enrichment_cache],
    check_specs=[
        checks.COMPLETE,
        checks.COVERAGE,
        checks.REPEATS,
        checks.L1_REACHABLE,
        checks.L1_LATENCY,
    ],
    # Sensors on the Internet are attacked all the time: a day without a new row means that no log arrives.
    freshness_policy=FreshnessPolicy.time_window(
        warn_window=timedelta(hours=26), fail_window=timedelta(hours=50)
    ),
    kinds={"sql"},
)
def enriched_sessions(
    context: AssetExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per session with what is known of its source, when that was learned, and what is not known."""
    days = days_of(context)
    with opened(database, redis, rate_limits) as pipeline:
        pipeline.write_news()  # of other days, too: the queue is asked in one order over all
        report = pipeline.enrich(days)
        note_said(pipeline.database, list(days))
        sessions = {str(day): pipeline.count_sessions(Days(day, day)) for day in days}
        networks, countries = pipeline.top_sources(days)
        cache = pipeline.cache.metrics.as_dict()
        check_results = checks.of_rows(report, sum(sessions.values()), cache, pipeline.cache.redis)
    for day, number in sessions.items():
        context.add_asset_metadata({"dagster/row_count": number}, partition_key=day)
    coverage = {service: report.coverage(service) for service in report.lookups}
    return MaterializeResult(
        metadata={
            "sessions": report.sessions,
            "coverage": table(["service", "sessions"], [(name, percent(c)) for name, c in coverage.items()]),
            "lookups": counts_table("service", report.lookups),
            "stale_answers": report.stale,
            "hits": table(["tier", "keys"], sorted(report.hits.items())),
            "cache": table(
                ["tier", "hit rate", "p50 ms", "p99 ms", "errors"],
                [
                    (tier, percent(t["hit_rate"]), t["p50_ms"], t["p99_ms"], t["errors"])
                    for tier, t in cache["totals"].items()
                ],
            ),
            "top_networks": table(["AS", "organization", "sessions"], networks),
            "top_countries": table(["country", "sessions"], countries),
        },
        check_results=check_results,
    )
