"""`sessions` x answers -> `enriched_sessions`."""

from datetime import date
from typing import Any

from dagster import AssetExecutionContext, MaterializeResult, ResourceParam, asset

from cowrie_enrich_dagster.defs import checks
from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_sessions
from cowrie_enrich_dagster.defs.assets.enrichment_cache import enrichment_cache
from cowrie_enrich_dagster.defs.columns import described, enriched_lineage, sample
from cowrie_enrich_dagster.defs.metadata import counts_table, table, tell
from cowrie_enrich_dagster.defs.partitions import daily, days_of, in_runs
from cowrie_enrich_dagster.defs.resources import DatabaseResource, RateLimitsResource, RedisResource, opened
from cowrie_enrich_dagster.defs.retries import retry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.coverage import JoinReport, top_sources
from cowrie_enrich_dagster.enrichment.ingest import newest_session
from cowrie_enrich_dagster.enrichment.learned import note_said
from cowrie_enrich_dagster.enrichment.runs import complete_run
from cowrie_enrich_dagster.readable import percent
from cowrie_enrich_dagster.storage.tables import EnrichedSession


@asset(
    group_name="enriched",
    partitions_def=daily,
    backfill_policy=in_runs,
    retry_policy=retry,
    deps=[cowrie_sessions, enrichment_cache],
    check_specs=[
        checks.COMPLETE,
        checks.COVERAGE,
        checks.WITHOUT_CALL,
        checks.L1_REACHABLE,
        checks.L1_LATENCY,
        checks.NEWEST_SESSION,
    ],
    kinds={"sql"},
    metadata=described(EnrichedSession, **{"dagster/column_lineage": enriched_lineage()}),
)
def enriched_sessions(
    context: AssetExecutionContext,
    database: ResourceParam[DatabaseResource],
    redis: ResourceParam[RedisResource],
    rate_limits: ResourceParam[RateLimitsResource],
) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per session with what is known of its source, when that was learned, and what is not known."""
    days, by_day = days_of(context), dict[date, JoinReport]()
    with opened(database, redis, rate_limits) as pipeline:
        pipeline.write_news()  # of other days, too: the queue is asked in one order over all
        report = pipeline.enrich(days, by_day)
        note_said(pipeline.database, list(days))
        without_call = complete_run(pipeline.database, context.run.run_id, report)
        told = {day: rows_of_day(pipeline, day, of_day) for day, of_day in by_day.items()}
        networks, countries = top_sources(pipeline.database, days)
        cache = pipeline.cache.metrics.as_dict()
        sessions = sum(of_day.sessions for of_day in by_day.values())
        check_results = [
            *checks.of_rows(report, sessions, cache, pipeline.cache.redis, without_call),
            checks.of_newest_session(*newest_session(pipeline.database)),
        ]
        checks.tell_of_errors(check_results, pipeline.notices, days)
    coverage = {service: report.coverage(service) for service in report.lookups}
    of_run = {
        "run_sessions": report.sessions,
        "run_coverage": table(["service", "sessions"], [(name, percent(c)) for name, c in coverage.items()]),
        "run_lookups": counts_table("service", report.lookups),
        "run_stale_answers": report.stale,
        "run_hits": table(["tier", "keys"], sorted(report.hits.items())),
        "run_cache": table(
            ["tier", "hit rate", "p50 ms", "p99 ms", "errors"],
            [
                (tier, percent(t["hit_rate"]), t["p50_ms"], t["p99_ms"], t["errors"])
                for tier, t in cache["totals"].items()
            ],
        ),
        "run_top_networks": table(
            ["AS", "sessions", "organization"], [(number, n, name) for number, name, n in networks]
        ),
        "run_top_countries": table(["country", "sessions"], countries),
    }
    tell(context, told, of_run)
    return MaterializeResult(check_results=check_results)


def rows_of_day(pipeline: Enricher, day: date, report: JoinReport) -> dict[str, Any]:
    """What the rows of one day say, for its partition: in numbers, of which the UI draws a plot by day."""
    coverage = {service: report.coverage(service) for service in report.lookups}
    return {
        "dagster/row_count": report.sessions,
        "sessions": report.sessions,
        "stale_answers": report.stale,
        **{f"coverage_{name}": round(share, 4) for name, share in coverage.items() if share is not None},
        "sample": sample(pipeline.database, EnrichedSession, day),
    }
