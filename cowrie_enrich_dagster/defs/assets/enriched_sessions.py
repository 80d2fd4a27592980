"""`sessions` x answers -> `enriched_sessions`."""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    MaterializeResult,
    asset,
)

from cowrie_enrich_dagster.defs.assets.cowrie_sessions import cowrie_sessions
from cowrie_enrich_dagster.defs.assets.enrichment_cache import enrichment_cache
from cowrie_enrich_dagster.defs.metadata import counts_table, percent, table
from cowrie_enrich_dagster.defs.partitions import daily, days_of, single_run
from cowrie_enrich_dagster.defs.resources import EnricherResource

MIN_COVERAGE = 0.95
_COMPLETE = AssetCheckSpec(
    "every_session_has_its_row",
    asset="enriched_sessions",
    description="As many enriched rows as sessions (exact; no tolerance).",
)
_COVERAGE = AssetCheckSpec(
    "coverage",
    asset="enriched_sessions",
    description="Each asked service has answered for at least 95 % of the sessions it may be asked about "
    "(warning: deferred lookups finish later).",
)


@asset(
    group_name="enrichment",
    partitions_def=daily,
    backfill_policy=single_run,
    deps=[cowrie_sessions, enrichment_cache],
    check_specs=[_COMPLETE, _COVERAGE],
    kinds={"sql"},
)
def enriched_sessions(context: AssetExecutionContext, enricher: EnricherResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per session with what is known of its source, when that was learned, and what is not known."""
    days = days_of(context)
    with enricher.open() as pipeline:
        report = pipeline.enrich(days)
        sessions = pipeline.count_sessions(days)
        networks, countries = pipeline.top_sources(days)
    coverage = {service: report.coverage(service) for service in report.lookups}
    asked = {service: share for service, share in coverage.items() if report.is_asked(service)}
    return MaterializeResult(
        metadata={
            "dagster/row_count": report.sessions,
            "coverage": table(["service", "sessions"], [(name, percent(c)) for name, c in coverage.items()]),
            "lookups": counts_table("service", report.lookups),
            "stale_answers": report.stale,
            "hits": table(["tier", "keys"], sorted(report.hits.items())),
            "top_networks": table(["AS", "organization", "sessions"], networks),
            "top_countries": table(["country", "sessions"], countries),
        },
        check_results=[
            AssetCheckResult(
                check_name=_COMPLETE.name,
                passed=report.sessions == sessions,
                metadata={"sessions": sessions, "enriched": report.sessions},
            ),
            AssetCheckResult(
                check_name=_COVERAGE.name,
                passed=all(share is None or share >= MIN_COVERAGE for share in asked.values()),
                severity=AssetCheckSeverity.WARN,
                metadata={name: percent(share) for name, share in asked.items()},
            ),
        ],
    )
